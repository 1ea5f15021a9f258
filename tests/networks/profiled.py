"""What torch's profiler saw a step hold on a CPU, without what single operators allocate and free themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes that were alive at once while `run` ran, of all that it allocated.

    A kernel's own scratch is left out: no dispatch mode sees it. Scratch is what is freed inside the very operator
    that allocated it, operators being those that a dispatch mode sees.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=False) as found:
        kept = run()
    rows = sorted(_allocations(found.profiler.kineto_results.experimental_event_tree(), None), key=lambda row: row[0])
    del kept
    open_at: dict[int, int] = {}
    scratch = set()
    for index, (_, pointer, size, operator) in enumerate(rows):
        if size > 0:
            open_at[pointer] = index
        elif pointer in open_at:
            begun = open_at.pop(pointer)
            if operator is not None and rows[begun][3] == operator:
                scratch |= {begun, index}
    live = peak = 0
    for index, (_, _, size, _) in enumerate(rows):
        if index not in scratch:
            live += size
            peak = max(peak, live)
    return peak


def _allocations(events: list[Any], operator: int | None) -> Iterator[tuple[int, int, int, int | None]]:
    """Yield (time, address, bytes, operator) of each allocation, and of each release with its bytes below zero."""
    for event in events:
        if event.tag == _EventType.Allocation:
            fields = event.extra_fields
            yield event.start_time_ns, fields.ptr, fields.alloc_size, operator
        inside = operator
        if inside is None and event.tag == _EventType.TorchOp and _is_seen(event.name):
            inside = event.id
        yield from _allocations(event.children, inside)


def _is_seen(name: str) -> bool:
    """Return whether a dispatch mode sees an operator; a composite one is seen as its parts."""
    if not name.startswith("aten::"):
        return False
    schemas = torch._C._jit_get_schemas_for_operator(name)
    overloads = [f"{name}.{item.overload_name}" if item.overload_name else name for item in schemas]
    # Some overloads are those of plain numbers, which no dispatcher knows.
    known = [item for item in overloads if torch._C._dispatch_has_kernel(item)]
    return not any(torch._C._dispatch_has_kernel_for_dispatch_key(item, "CompositeImplicitAutograd") for item in known)
