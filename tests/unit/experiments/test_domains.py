"""The domains that are always there."""

from __future__ import annotations

from pathlib import Path

from fishersft.experiments.domains import domain_texts


def test_every_domain_has_enough_texts_for_the_demo_and_none_twice(tmp_path: Path) -> None:
    (tmp_path / "proverbs.txt").write_text(
        "A stitch in time\nsaves nine.\n\nToo short\n\nA stitch in time\nsaves nine.\n"
    )
    texts = domain_texts(tmp_path)
    assert list(texts) == ["shakespeare", "python-code", "python-manual", "proverbs"]
    assert texts.pop("proverbs") == ["A stitch in time\nsaves nine."]
    assert all(len(found) >= 800 and len(found) == len(set(found)) for found in texts.values())
    assert any("To be, or not to be" in speech for speech in texts["shakespeare"])
    assert any("import" in block for block in texts["python-code"])
    assert any("lambda" in paragraph for paragraph in texts["python-manual"])
