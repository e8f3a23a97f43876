"""The questions of every page by keyboard: each choice has its feedback, scripts or none."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adversarial_lab.quiz import quiz, stems
from tools.book import HTML


def answer_every_way(browser, stem):
    browser.get((HTML / f"book/{stem}.html").as_uri())
    groups = browser.find_elements(By.CSS_SELECTOR, ".advq fieldset")
    for group, question in zip(groups, quiz(stem).questions, strict=True):
        said = group.find_element(By.CSS_SELECTOR, "[role=status]")
        assert said.text == ""
        choices = group.find_elements(By.CSS_SELECTOR, "input")
        choices[0].send_keys(Keys.SPACE)
        for choice, answer in zip(choices, question["answers"], strict=True):
            assert choice.is_selected()
            assert said.text.endswith(answer["feedback"])
            assert said.text.startswith("Right.") == answer["correct"]
            choice.send_keys(Keys.ARROW_DOWN)


@pytest.mark.parametrize("stem", stems())
def test_every_choice_shows_its_own_feedback(browser, complaints, stem):
    answer_every_way(browser, stem)
    assert complaints() == []


def test_feedback_needs_no_script(browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    answer_every_way(browser, stems()[0])
