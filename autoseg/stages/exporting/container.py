"""A model file -> a folder to build a container from: offline, not as root, `/input` in, `/output` out."""

from __future__ import annotations

import shutil
from pathlib import Path

from autoseg import __version__
from autoseg.records.package import Package
from autoseg.stages.predicting import packages
from autoseg.storage import write_bytes, writing

MODEL, ENTRY = "model.zip", "predict.sh"

DOCKERFILE = """\
# Build: docker build -t {tag} .
# Run:   docker run --rm --network none -v "$PWD/scans:/input:ro" -v "$PWD/labels:/output" {tag}
ARG BASE=python:3.11-slim
FROM ${{BASE}}

# The network is needed here and never again. For a card, build with the CUDA wheels:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 ...
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG AUTOSEG=autoseg=={version}
RUN pip install --no-cache-dir --index-url "${{TORCH_INDEX}}" torch && pip install --no-cache-dir "${{AUTOSEG}}"

RUN groupadd --gid 1000 user && useradd --uid 1000 --gid 1000 --create-home user \\
 && mkdir -p /input /output /opt/model && chown user:user /output
COPY model.zip predict.sh /opt/model/
RUN chmod 0755 /opt/model/predict.sh && chmod 0444 /opt/model/model.zip

USER user
WORKDIR /home/user
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["/opt/model/predict.sh"]
"""

SCRIPT = """\
#!/bin/sh
# Predicts every scan in /input and writes a label map of the same name to /output, without a network.
# Exit codes: 0 done, 2 usage, 3 bad data, 4 some scans failed (the others are written), 5 resources.
# AUTOSEG_INPUT, AUTOSEG_OUTPUT and AUTOSEG_MODEL name other places; further words go to `autoseg predict`.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
exec python3 -m autoseg predict \\
  -m "${AUTOSEG_MODEL:-$here/model.zip}" \\
  -i "${AUTOSEG_INPUT:-/input}" \\
  -o "${AUTOSEG_OUTPUT:-/output}" "$@"
"""

README = """\
# {name}: a container that segments

| | |
|---|---|
| input | `/input`, read only: {channels} |
| output | `/output`: one `<case>.nii.gz` a case, on the grid of its scan |
| values | 0 background, {values} |
| network | none: run it with `--network none` |
| user | uid 1000, not root; `/output` must be writable for it |
| exit code | 0 done, 3 bad data, 4 some scans failed and the others are written, 5 memory or disk |
| model | {digest} |
| licence | {licence} |
| intended use | {intended} |

```
docker build -t {tag} .
docker run --rm --network none -v "$PWD/scans:/input:ro" -v "$PWD/labels:/output" {tag}
```
A card: build with `--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126` and run with `--gpus all`. Another
release of autoseg: `--build-arg AUTOSEG=...` takes whatever pip takes. Words behind the image's name go to
`autoseg predict`, such as `--no-mirror`. Without a container:
`AUTOSEG_INPUT=scans AUTOSEG_OUTPUT=labels sh predict.sh`.
"""


def write_container(model: Path, folder: Path) -> Package:
    """Write a Dockerfile, the script that it runs, a README of its contract, and the model.

    Args:
        model: What `write_package` wrote; it is checked first.
        folder: Made where there is none.

    Raises:
        DataError: The model file is damaged.
        ResourceError: The folder cannot be written.
    """
    content = packages.opened(model)
    package, digest = content.package, content.digest
    packages.load_members(content)  # a container whose model does not load would fail far from here
    with writing(folder / MODEL) as temporary:
        shutil.copyfile(model, temporary)
    tag = f"autoseg-{package.name.lower()}"
    write_bytes(folder / "Dockerfile", DOCKERFILE.format(tag=tag, version=__version__).encode())
    write_bytes(folder / ENTRY, SCRIPT.encode())
    (folder / ENTRY).chmod(0o755)
    write_bytes(folder / "README.md", _readme(package, digest, tag).encode())
    return package


def _readme(package: Package, digest: str, tag: str) -> str:
    plan = package.plan
    names = [channel.name for channel in plan.channels]
    files = ", ".join(f"`<case>_{number:04d}.nii.gz` ({name})" for number, name in enumerate(names))
    return README.format(
        name=_one_line(package.name),
        channels=_one_line("`<case>.nii.gz` (" + names[0] + "), or nrrd, mha" if len(names) == 1 else files),
        values=", ".join(f"{item.original} {_one_line(item.name)}" for item in plan.labels.structures),
        digest=digest,
        licence=_one_line(package.licence) or "not stated",
        intended=_one_line(package.intended_use) or "not stated",
        tag=tag,
    )


def _one_line(text: str) -> str:
    """Return text that cannot break out of a cell of a table."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()).replace("|", "/")
