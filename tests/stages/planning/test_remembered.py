from concurrent.futures import ThreadPoolExecutor

from autoseg.records.configuration import Architecture
from autoseg.records.preset import Recipe
from autoseg.stages.planning.remembered import remembering
from tests.stages.planning.examples import linear_cost

NETWORK = Architecture(kind="unet", dimensions=3, input_channels=1, output_channels=2, arguments={"features": [32, 64]})
HOW = {"precision": "bfloat16", "device_kind": "cuda"}


def counting(calls):
    def cost(*arguments, **how):
        calls.append(arguments)
        return linear_cost(*arguments, **how)

    return cost


def test_a_second_planning_measures_nothing_again(tmp_path):
    calls = []
    first = remembering(counting(calls), tmp_path)(NETWORK, Recipe(), (8, 8, 8), 2, **HOW)
    again = remembering(counting(calls), tmp_path)(NETWORK, Recipe(), (8, 8, 8), 2, **HOW)
    assert len(calls) == 1
    assert (again.peak_bytes, again.parameters, again.flops) == (first.peak_bytes, first.parameters, first.flops)
    remembering(counting(calls), tmp_path)(NETWORK, Recipe(), (8, 8, 8), 2, precision="float32", device_kind="cuda")
    assert len(calls) == 2, "another precision is another step"


def test_damaged_lines_are_measured_again(tmp_path):
    calls = []
    remembering(counting(calls), tmp_path)(NETWORK, Recipe(), (8, 8, 8), 2, **HOW)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9] + b"\xff\n[1]\n{}\n")
    remembering(counting(calls), tmp_path)(NETWORK, Recipe(), (8, 8, 8), 2, **HOW)
    assert len(calls) == 2


def test_many_who_write_at_once_lose_nothing(tmp_path):
    calls = []
    costs = [remembering(counting(calls), tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: costs[n % 8](NETWORK, Recipe(), (n, 8, 8), 2, **HOW), range(8, 72)))
    late = remembering(counting(calls), tmp_path)
    for n in range(8, 72):
        late(NETWORK, Recipe(), (n, 8, 8), 2, **HOW)
    assert len(calls) == 64


def test_nothing_is_written_where_nothing_may_be(tmp_path):
    remembering(linear_cost, tmp_path / "there", write=False)(NETWORK, Recipe(), (8, 8, 8), 2, **HOW)
    assert not (tmp_path / "there").exists()
