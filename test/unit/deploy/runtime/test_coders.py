"""The decoding in numpy gives what the one in torch gives."""

import numpy as np
import pytest
import torch

from mmdet.core.anchors import Anchors
from mmdet.core.coders import CODERS, DistanceCoder, PriorCoder, describe_coder
from mmdet.deploy.runtime.coders import DECODERS, AnchorArrays, make_decoder
from mmdet.errors import ConfigError


@pytest.mark.parametrize("coder", [DistanceCoder(), PriorCoder(), PriorCoder(variances=(0.3, 0.5))])
@pytest.mark.parametrize("num", [0, 1, 200])
def test_numpy_decodes_as_torch(coder, num):
    rng = np.random.RandomState(num)
    center, wh = (rng.rand(num, 2).astype(np.float32) * side for side in (640, 200))
    bbox, kps = (rng.randn(num, n).astype(np.float32) for n in (4, 10))
    anchors = Anchors(torch.from_numpy(center), 16, torch.from_numpy(wh))
    arrays, decoder = AnchorArrays(center, 16, wh), make_decoder(describe_coder(coder))
    want = coder.decode_bboxes(torch.from_numpy(bbox), anchors).numpy()
    got = decoder.bboxes(bbox, arrays)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-4)
    want = coder.decode_kps(torch.from_numpy(kps), anchors).numpy().reshape(num, 5, 2)
    np.testing.assert_allclose(decoder.kps(kps, arrays), want, rtol=1e-6, atol=1e-4)


def test_every_coder_has_a_decoder():
    assert set(CODERS) == set(DECODERS)


@pytest.mark.parametrize(
    ("coder", "words"),
    [({}, "coder = {} must be a dict with a key 'type'"),
     ({"type": "Polar"}, "Known: DistanceCoder, PriorCoder"),
     ({"type": "PriorCoder", "sigma": 1}, "PriorCoder.*sigma")],
)  # fmt: skip
def test_what_is_no_coder(coder, words):
    with pytest.raises(ConfigError, match=words):
        make_decoder(coder)
