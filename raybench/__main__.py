"""Runs the command line: `python -m raybench` is the same program as `raybench`."""

import sys

from raybench.execute.signals import INTERRUPTED, Signals


def main() -> int:
    """Run the command of this process, which signals end cleanly from here on."""
    Signals.of_process()
    try:
        from raybench.cli import main as command_line  # takes a tenth of a second

        code = command_line.main()
    except KeyboardInterrupt:
        sys.stderr.write("raybench: interrupted.\n")
        code = INTERRUPTED
    # An interrupt that passed through the text of a dataclass, which `exec` runs, is remembered by
    # CPython, which would end this process by SIGINT in place of the code. The next `exec` forgets it.
    exec("")
    return code


if __name__ == "__main__":
    sys.exit(main())
