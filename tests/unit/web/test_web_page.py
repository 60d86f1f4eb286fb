import re

import pytest

from foveal.web.page import _log_ticks, _ticks, block_map, line_plot, page, slider, table


def test_page_makes_no_request_and_escapes() -> None:
    text = page("<a>", table(("x",), [("<script>",)]) + slider("data:,", "data:,", caption="<b>"))
    assert "<title>&lt;a&gt;</title>" in text
    assert "<td>&lt;script&gt;</td>" in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "@import" not in text


def test_ticks_are_round_and_cover() -> None:
    assert _ticks(0, 0.95) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert _ticks(3, 3)[0] <= 3
    ticks = [round(10**t) for t in _log_ticks(2.4, 4.1)]
    assert ticks == [200, 500, 1000, 2000, 5000, 10000, 20000]


@pytest.mark.parametrize("log_x", [False, True])
def test_plot_points_stay_inside(log_x: bool) -> None:
    svg = line_plot(
        [("a", "red", [(200.0, 0.1), (9000.0, 0.9)])],
        x_label="x",
        y_label="y",
        log_x=log_x,
        width=400,
        height=300,
    )
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    for pair in points.group(1).split():
        u, v = map(float, pair.split(","))
        assert 58 <= u <= 384
        assert 12 <= v <= 256


def test_block_map_packs_rows() -> None:
    text = block_map([[True, False], [True, True]], causal=True, caption="c")
    assert "10" in text
    assert "11" in text
