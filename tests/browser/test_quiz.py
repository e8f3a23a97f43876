"""The questions of every page by keyboard: each choice has its feedback, scripts or none."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adversarial_lab.quiz import quiz, stems
from tools.book import HTML


def groups(browser, stem):
    browser.get((HTML / f"book/{stem}.html").as_uri())
    return browser.find_elements(By.CSS_SELECTOR, ".advq fieldset")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("stem", stems())
def test_every_choice_shows_its_own_feedback(browser, complaints, stem, scripts):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    shown = groups(browser, stem)
    assert len(shown) == len(quiz(stem).questions)
    for group, question in zip(shown, quiz(stem).questions, strict=True):
        said = group.find_element(By.CSS_SELECTOR, "[role=status]")
        assert said.text == ""
        choices = group.find_elements(By.CSS_SELECTOR, "input")
        choices[0].send_keys(Keys.SPACE)
        for k, answer in enumerate(question["answers"]):
            assert said.text.endswith(answer["feedback"])
            assert said.text.startswith("Right.") == answer["correct"]
            assert choices[k].is_selected()
            choices[k].send_keys(Keys.ARROW_DOWN)
    assert complaints() == []
