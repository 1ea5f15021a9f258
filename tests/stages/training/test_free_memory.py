from autoseg.stages.training.free_memory import UNKNOWN_BYTES, free_memory_bytes, used_memory_gb


def test_the_system_says_how_much_is_free(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable:    300 kB\n")
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path) == 300 * 1024


def test_a_container_may_leave_less(tmp_path):
    (tmp_path / "meminfo").write_text("MemAvailable: 300 kB\n")
    (tmp_path / "memory.max").write_text("2048\n")
    (tmp_path / "memory.current").write_text("48\n")
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path) == 300 * 1024


def test_where_nothing_is_known_four_gigabytes_are_assumed(tmp_path):
    assert free_memory_bytes(tmp_path / "meminfo", tmp_path) == UNKNOWN_BYTES


def test_what_the_process_has_used_is_its_peak():
    """An interpreter with NumPy and torch takes between 50 MB and the 24 GB that a test machine has."""
    assert 0.05 < used_memory_gb("cpu") < 24
