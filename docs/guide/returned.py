"""Print the file in which another bank returns an entry of an ACH file: FILE, which entry of it, reason such as R03."""

import sys
from pathlib import Path

lines = Path(sys.argv[1]).read_text("ascii").splitlines()
entry = [line for line in lines if line.startswith("6")][int(sys.argv[2]) - 1]
bank, amount, trace = entry[3:11], entry[29:39], entry[79:94]
totals = f"{int(bank):010}{0:012}{amount:>012}"
returned = (
    lines[0],
    lines[1],
    f"621{entry[3:78]}1{bank}0000001",
    f"799{sys.argv[3]}{trace}{'':6}{bank}{'':44}{bank}0000001",
    f"8220000002{totals}{lines[1][40:50]}{'':25}{bank}0000001",
    f"9000001000001{2:08}{totals}{'':39}",
)
sys.stdout.write("".join(f"{line}\n" for line in returned))
