"""The checks of `sega.testing` on every method of the project, on small random FLUX and Qwen-Image pipelines."""

import pytest
from method_table import METHODS
from omegaconf import OmegaConf

from sega.testing import check_method


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_a_method_passes_every_check(row):
    check_method(row.name, **OmegaConf.to_container(OmegaConf.from_dotlist([*row.quick, *row.same_shift])))
