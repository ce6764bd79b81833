"""`make agreement`: each verifier beside the right verdicts on real and on written answers.

    python -m tests.agreement [NAME ...]

Runs `main()` of every module in this folder, which prints tables and says what it left out and why.
The exit code is 1 when one of them missed its bar.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests import agreement


def main(names: list[str]) -> int:
    here = [module.name for module in pkgutil.iter_modules(agreement.__path__)]
    found = [name for name in here if name != "__main__"]
    unknown = sorted(set(names) - set(found))
    if unknown:
        print(f"no {', '.join(unknown)} here; there are {', '.join(found)}", file=sys.stderr)
        return 2
    statuses = [
        importlib.import_module(f"tests.agreement.{name}").main() for name in names or found
    ]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
