"""The command line.

`uldnum.cli.command` is the entry point. It imports `uldnum.cli.app`, and with it the commands, only when it runs.
"""

__all__: list[str] = []
