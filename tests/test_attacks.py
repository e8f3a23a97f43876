from adversarial_lab.attacks.apgd import checkpoints


def test_checkpoints_are_those_of_the_paper_for_100_steps():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
