from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoseg.networks import staged
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic, small


class Sum(nn.Module):
    """A decoder stage by hand: the skip, and the mean of what lies below."""

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return skip + below.mean()


def by_hand(**changes: object) -> staged.StagedNetwork:
    return staged.StagedNetwork(
        anisotropic(**changes),  # type: ignore[arg-type]
        nn.Identity(),
        encoder=[nn.Identity(), nn.AvgPool3d((1, 2, 2)), nn.AvgPool3d(2)],
        decoder=[Sum(), Sum()],
        heads=[nn.Identity(), nn.Identity()],
    )


def test_each_decoder_stage_takes_its_own_skip() -> None:
    outputs = by_hand()(torch.ones(1, 1, 2, 4, 8))
    # Ones everywhere: 1 + 1 on the middle grid, 1 + 2 on the finest.
    assert [tuple(item.shape[2:]) for item in outputs] == [(2, 4, 8), (2, 2, 4)]
    assert [item.unique().tolist() for item in outputs] == [[3.0], [2.0]]


def test_evaluation_gives_the_finest_alone() -> None:
    assert by_hand().eval()(torch.ones(1, 1, 2, 4, 8)).unique().tolist() == [3.0]


def test_without_deep_supervision_only_the_finest_stage_has_a_head() -> None:
    def stages(**changes: bool) -> list[int]:
        architecture = small(stages=4, **changes)  # type: ignore[arg-type]
        return list(staged.headed(architecture, staged.read(architecture)))

    assert stages() == [2, 1, 0]
    assert stages(deep_supervision=False) == [0]


@pytest.mark.parametrize(("training", "count"), [(True, 2), (False, 1)])
def test_a_checkpointed_stage_runs_again_in_the_backward_pass(training: bool, count: int) -> None:
    runs = []

    def stage(x: Tensor) -> Tensor:
        runs.append(1)
        return x * x

    x = torch.ones(2, requires_grad=True)
    staged.run(stage, x, checkpointing=training).sum().backward()
    assert len(runs) == count
    assert x.grad.tolist() == [2.0, 2.0]


def test_the_rule_of_shape_asks_for_the_shared_arguments_only() -> None:
    assert staged.divisor(anisotropic(more={"rates": [6]})) == (2, 4, 4)
    incomplete = anisotropic().model_copy(update={"arguments": {"features": [4, 8], "rates": [6]}})
    with pytest.raises(UsageError, match="argument 'strides' is missing"):
        staged.divisor(incomplete)
