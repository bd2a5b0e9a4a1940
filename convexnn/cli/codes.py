"""Exit codes: the same for every command."""

from __future__ import annotations

DONE = 0  #: done; certify and region: everything is proved
REFUSED = 1  #: falsified, refused by a check, or a computation failed
USAGE = 2  #: arguments or files cannot be used
UNKNOWN = 3  #: neither proved nor falsified
INTERRUPTED = 130  #: Ctrl-C
BROKEN_PIPE = 141  #: nobody reads the output any more

MEANING = {
    DONE: "done; certify and region: everything is proved",
    REFUSED: "falsified, refused by a check, or a computation failed",
    USAGE: "arguments or files cannot be used",
    UNKNOWN: "neither proved nor falsified (certify, region)",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "the reader of the output has gone",
}
