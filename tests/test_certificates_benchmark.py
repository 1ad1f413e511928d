"""The benchmark of certificates counts only certificates for the class of the right answer as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import certificates


@pytest.mark.slow
def test_requests_are_certified_to_be_refused_and_rows_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SIGMAS", (0.1,))
    monkeypatch.setattr(certificates, "PATCHES", (0.05,))
    monkeypatch.setattr(certificates, "WINDOWS_PER_AXIS", 2)
    requests, *_ = asked = certificates.kinds(tmp_path, 2)
    assert [len(kind.cases) for kind in asked] == [2, 2, 2]
    (noise,) = certificates.noise_rows([requests], num_samples=20)
    assert noise[2:4] == ("2/2 = 1.000 (0.342-1.000)",) * 2
    (patch,) = certificates.patch_rows([requests])
    assert patch[1:2] + patch[4:] == ("5 x 5", "10")
    wrong = certificates.Kind(name="x", by="stance", cases=tuple(_turned(case) for case in requests.cases))
    (noise,) = certificates.noise_rows([wrong], num_samples=20)
    assert noise[2:4] == ("2/2 = 1.000 (0.342-1.000)", "0/2 = 0.000 (0.000-0.658)")


def _turned(case: certificates.Case) -> certificates.Case:
    return certificates.Case(message=case.message, right="answers")


def test_a_case_sends_the_image_before_the_question(tmp_path: Path) -> None:
    kind = certificates.kinds(tmp_path, 6)[1]
    assert [block["type"] for block in kind.cases[0].message.content_blocks] == ["image", "text"]
    assert {case.right for case in kind.cases} == {"yes", "no"}
