"""Three policies near one another, for comparisons with TRL: far apart, every ratio would be clipped."""

import numpy as np

from afm_ref.interop import hugging_face
from tests.interop.models import map_weights, random_params
from tests.oracles import peers

P, K = 3, 4  # prompts, responses to each
BETA, EPSILON = 0.15, 0.2


def nearby(cfg, params=None, size: float = 0.03):
    """Return (present, old, reference): float32 weights, and the same with a little noise."""
    present = random_params(cfg, 0) if params is None else params
    rng = np.random.default_rng(9)

    def noisy(w):
        return (w + size * rng.standard_normal(w.shape) * np.std(w)).astype(np.float32)

    return present, map_weights(noisy, present), map_weights(noisy, present)


def transformers_model(params, cfg, folder):
    """Return transformers' model with these weights in float64; call it within peers.exact_torch."""
    hugging_face.save(folder, params, cfg)
    return peers.read(folder).double().eval()
