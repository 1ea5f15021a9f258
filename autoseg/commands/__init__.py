"""Words typed -> one call into the pipeline; one module a group of commands, each imported by `autoseg.cli`.

Everything heavy is imported inside a command, so that `--help` answers at once.
"""
