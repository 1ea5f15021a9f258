"""What flows through autoseg: frozen records, with no behaviour beyond arithmetic on themselves.

Records that are stored derive from `records.record.Record` (pydantic, frozen, unknown keys refused); records that
hold arrays are frozen dataclasses in `records.volumes`. Arrays are `(C, Z, Y, X)`; shapes and spacings `(z, y, x)`.
"""
