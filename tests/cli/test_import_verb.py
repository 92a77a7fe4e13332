"""`matinee import`: what items and users are."""

ITEMS = "id,title,genres\nup+2009,Up,Animation|Comedy\nnew+2031,New,Drama\n"


def test_what_items_and_users_are_is_imported_told_and_refused(matinee, tmp_path):
    catalogue, people = tmp_path / "catalogue.csv", tmp_path / "people.jsonl"
    catalogue.write_text(ITEMS)
    people.write_text('{"user_id": 7, "age": "31", "gender": "F"}\n')
    first = matinee.json("import", catalogue, "--format", "items")
    assert (first["kind"], first["read"], first["changed"], first["erased"]) == ("item", 2, 2, 0)
    again = matinee("import", catalogue, "--format", "items")
    assert "2 items read, 0 of them new or changed" in again.stderr + again.stdout
    assert matinee.json("import", people, "--format", "users")["changed"] == 1
    catalogue.write_text(ITEMS + "Dark City,Dark,\n")
    refused = matinee("import", catalogue, "--format", "items", status=1)
    assert "row 3" in refused.stderr
    assert "--column" in matinee("import", people, "--format", "items", "-c", "title=name", status=1).stderr
