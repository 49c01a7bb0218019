"""Options of truncation at the synthesis network, where scripts put them."""

import numpy as np
import pytest

from dnnlib.tflib import Network
from dnnlib.util import UserError


@pytest.mark.parametrize("module", ["networks_stylegan2", "networks"])
def test_synthesis_draws_w_as_it_is_and_says_so(session, module):
    sizes = dict(resolution=8, fmap_base=32, fmap_max=4, latent_size=4, dlatent_size=4, mapping_layers=1)
    synthesis = Network("G", f"training.{module}.G_main", **sizes).components.synthesis
    w = np.random.RandomState(0).randn(2, 4, 4)
    plain = synthesis.run(w, randomize_noise=False)
    with pytest.warns(UserWarning, match="'G_synthesis' does not read truncation_psi"):
        given = synthesis.run(w, randomize_noise=False, truncation_psi=0.1)
    np.testing.assert_array_equal(given, plain)
    with pytest.raises(UserError, match="unknown option 'truncation_phi'"):
        synthesis.run(w, truncation_phi=0.1)
