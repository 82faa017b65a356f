"""`python -m tests.planted [NAME …]`: breaks each rule and tells who notices; exit code 1 if nobody does."""

import sys

from .rules import RULES
from .trial import notice, trials


def main() -> int:
    chosen = [rule for rule in RULES if not sys.argv[1:] or any(word in rule.name for word in sys.argv[1:])]
    missed = 0
    with trials() as pool:
        futures = [(rule, pool.submit(notice, rule)) for rule in chosen]
        for rule, future in futures:
            caught, said = future.result()
            missed += not caught
            sys.stdout.write(f"{'noticed' if caught else 'MISSED '}  {rule.name}  ({rule.caught_by})\n")
            if not caught or sys.argv[1:]:
                sys.stdout.write(said)
    sys.stdout.write(f"{len(chosen)} rules broken, {len(chosen) - missed} noticed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
