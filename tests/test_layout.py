import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["protocol", "agents", "broker"])
def test_from_anywhere_a_package_is_the_one_of_this_checkout(package: str) -> None:
    """The names are generic: another distribution of the same name must not take their place."""
    told = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()) == ROOT / package / "__init__.py"
