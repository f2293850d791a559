"""A host that comes without code, on data it was not trained on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from surgeon.search import Config, implant, load_implant

from surgeon.data import Preparation, open_data
from surgeon.hosts import open_host

NUCLEI = Path(__file__).parents[3] / "shared" / "data" / "nuclei"

pytestmark = pytest.mark.skipif(not NUCLEI.exists(), reason="the nuclei data are not here")


def nuclei(root, chosen):
    """Return some of the nuclei images with their masks, by their place in the order of names."""
    with zipfile.ZipFile(NUCLEI / "dsb2018_fluo_gray.zip") as archive:
        files = sorted(name for name in archive.namelist() if not name.endswith("/"))
        for folder in {Path(name).parts[0] for name in files}:
            archive.extractall(root, [name for name in files if name.startswith(f"{folder}/")][chosen])
    how = Preparation(scale="minmax", multiple=16, channels=1, binarise=True)
    return open_data(root, preparation=how)


@pytest.mark.slow
def test_an_exported_program_is_searched_implanted_and_loaded_again(tmp_path):
    cohort = nuclei(tmp_path / "data", slice(16))
    host = open_host(NUCLEI / "hpa.pt2").module
    config = Config.create(
        epochs=1,
        retrain_epochs=2,
        steps=2,
        batch_size=2,
        crop=(64, 64),
        architecture_start=0,
        allow_worse=True,
        finalists=False,
    )
    result = implant(host, cohort, config, out=tmp_path / "RUN")
    assert [skip.merge.value for skip in result.anatomy.skips] == ["add"] * 4
    assert list(result.network.implants.keys()) == ["s0", "s1", "s2", "s3"]
    assert result.report["task"]["activation"] == "probabilities, sigmoid inside"
    assert 0.5 < result.report["scores"]["host"]["dice_mean"] < 1
    x = cohort.read(cohort.cases[0]).image[None]
    loaded = load_implant(open_host(NUCLEI / "hpa.pt2").module, tmp_path / "RUN")
    with torch.no_grad():
        assert torch.equal(loaded(x), result.network(x))


@pytest.mark.slow
def test_a_short_search_lifts_the_host_on_nuclei(tmp_path):
    # A sample of all kinds of images: on some kinds alone the host is as good as it gets.
    cohort = nuclei(tmp_path / "data", slice(None, None, 8))
    host = open_host(NUCLEI / "hpa.pt2").module
    config = Config.create(
        epochs=4, retrain_epochs=8, steps=10, batch_size=4, crop=(128, 128), finalists=False
    )
    report = implant(host, cohort, config).report
    assert report["scores"]["implanted"]["dice_mean"] > report["scores"]["host"]["dice_mean"] + 0.01
    assert report["verdict"] == "improved"
