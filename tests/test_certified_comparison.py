"""The run that compares certificates, and the record of it that the page shows."""

import json

import pytest

from adversarial_lab import data, nets
from adversarial_lab.certified import certify
from adversarial_lab.runs.__main__ import main
from adversarial_lab.threat import ThreatModel
from tools.book import ROOT

TINY = "networks=mnist-ibp linf=0.1,0.3 l2=0.1,0.3 images=6 steps=5 draws=100 strong_images=4"
RECORDS = list((ROOT / "book/results").glob("certificates-*.json"))


@pytest.mark.slow
def test_the_run_measures_every_method_until_it_verifies_nothing(tmp_path, capsys):
    assert main(["certificates", *TINY.split(), "--out", str(tmp_path), "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    rows = {(r["norm"], r["method"], r["eps"]): r["verified"] for r in record["history"]}
    x, y = data.load("mnist-mini", "test", 6)
    for norm, methods in (("linf", ("ibp", "crown")), ("l2", ("crown", "lipschitz"))):
        for method in methods:
            threat = ThreatModel(norm=norm, eps=0.1)
            proved = certify(nets.shipped("mnist-ibp"), x, y, threat, method)
            assert rows[norm, method, 0.1] == proved.double().mean().item()
    assert rows["l2", "lipschitz", 0.1] == 0 and ("l2", "lipschitz", 0.3) not in rows
    assert record["metrics"]["mnist-ibp strong"]["n"] == 4
    assert record["metrics"]["mnist-ibp linf 0.1 pgd"]["n"] == 6


def test_the_run_names_the_methods_and_networks_it_knows(tmp_path, capsys):
    for setting in ("linf_methods=ibp,bip", "networks=mnist-ibq"):
        assert main(["certificates", setting, "--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert setting.partition("=")[0] in said and "ibp" in said


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
@pytest.mark.claim("17.4.3", "no certificate exceeds what the strongest attack leaves standing")
def test_in_the_record_no_certificate_exceeds_what_the_attack_leaves(path):
    rows = json.loads(path.read_text())["history"]
    left = {
        (r["network"], r["norm"], r["eps"]): r["verified"] for r in rows if r["method"] == "pgd"
    }
    # smoothing certifies another classifier than the one that is attacked
    proved = [r for r in rows if r["method"] not in ("pgd", "smoothing")]
    assert proved
    for r in proved:
        assert r["verified"] <= left.get((r["network"], r["norm"], r["eps"]), 0.0), r


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
@pytest.mark.claim("17.4.2", "in the record finer bounds never verify fewer digits")
def test_in_the_record_finer_methods_verify_more(path):
    rows = json.loads(path.read_text())["history"]
    share = {(r["network"], r["norm"], r["eps"], r["method"]): r["verified"] for r in rows}
    for coarse, fine in (("ibp-logits", "ibp"), ("ibp", "crown-ibp"), ("ibp", "crown")):
        pairs = [(v, share[*key, fine]) for (*key, m), v in share.items() if m == coarse and v]
        assert pairs and all(v <= w for v, w in pairs)
