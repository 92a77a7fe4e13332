"""`matinee quarantine list` and `replay`."""


def test_the_quarantine_is_shown_and_read_again(matinee, tmp_path):
    assert "empty" in matinee("quarantine", "list").stdout
    lines = tmp_path / "lines.txt"
    lines.write_text(
        "2024-03-01T11:00:00,7,GET /rate/alien+1979=4\nwhat is [this]\n"
        "2024-03-01T11:00:00,8,GET /rate/alien+1979=17\n"
    )
    assert matinee.json("import", lines, "--format", "lines")["quarantined"] == 2
    shown = matinee.json("quarantine", "list", "--examples", 1)
    assert shown["records"] == 2
    assert {reason["reason"]: reason["examples"] for reason in shown["reasons"]} == {
        "unknown_form": ["what is [this]"],
        "bad_rating": ["2024-03-01T11:00:00,8,GET /rate/alien+1979=17"],
    }
    assert "what is [this]" in matinee("quarantine", "list").stdout
    done = matinee.json("quarantine", "replay")
    assert (done["read"], done["stayed"]) == (0, 2)
    assert "2 still cannot be read" in matinee("quarantine", "replay").stdout
