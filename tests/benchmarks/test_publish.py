"""A page of figures is what was measured, and finds its pictures."""

from pathlib import Path

from publish import publish


def test_publish_writes_the_page_and_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "out" / "needle").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    document, page = tmp_path / "out" / "peers.md", tmp_path / "docs" / "figures" / "peers_avx2.md"
    document.write_text("# Peers\n\n| a |\n\n![ttft](peers_ttft.png)\n\n![loss](needle/loss.png)\n", "utf-8")
    (tmp_path / "out" / "peers_ttft.png").write_bytes(b"ttft")
    (tmp_path / "out" / "needle" / "loss.png").write_bytes(b"loss")
    images = [tmp_path / "docs" / "images" / f"peers_avx2_{name}.png" for name in ("ttft", "needle_loss")]
    for _ in range(2):  # the second time over what the first wrote
        assert publish(document, page) == [page, *images]
    assert [image.read_bytes() for image in images] == [b"ttft", b"loss"]
    text = page.read_text("utf-8")
    assert text.startswith("# Peers\n\n<!-- Written by the command below")
    assert text.endswith(
        "| a |\n\n![ttft](../images/peers_avx2_ttft.png)\n\n![loss](../images/peers_avx2_needle_loss.png)\n"
    )


def test_a_picture_that_names_its_folder_keeps_its_name(tmp_path: Path) -> None:
    document = tmp_path / "accuracy.md"
    document.write_text("# A\n\n![heads](heads/heads_a.png)\n", "utf-8")
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "heads_a.png").write_bytes(b"picture")
    [_, image] = publish(document, tmp_path / "docs" / "figures" / "accuracy.md")
    assert image.name == "accuracy_heads_a.png"
