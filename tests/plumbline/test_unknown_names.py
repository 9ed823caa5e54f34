from plumbline import unknown_name


def test_the_nearest_name_is_told_and_one_that_begins_alike():
    known = ["accuracy", "loss", "calibration_error"]
    assert str(unknown_name("--metric", "acuracy", known)) == (
        "--metric: unknown name 'acuracy'; did you mean 'accuracy'? known: accuracy, calibration_error, loss"
    )
    assert "did you mean 'accuracy'?" in str(unknown_name("--metric", "acc", known))
    assert "did you mean" not in str(unknown_name("--metric", "x", known))


def test_of_many_names_those_nearest_are_listed():
    known = [f"column_{number}" for number in range(300)] + ["hospital"]
    message = str(unknown_name("data.group", "hospitl", known))
    assert message.startswith("data.group: unknown name 'hospitl'; did you mean 'hospital'? known: hospital, column_")
    assert message.endswith(" and 296 others")
