"""Prefect's pages as a person uses them: filling a form of a flow's settings, choosing from a run's menu."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

_GROUP = 'ancestor::div[contains(concat(" ", @class, " "), " group ")][1]'


class Form:
    """A form that Prefect's UI builds of a schema, on a page or in a dialog."""

    def __init__(self, place: Page | Locator):
        self._place = place

    def field(self, *titles: str) -> Locator:
        """The field of that title, within the sections of the titles before it."""
        found: Page | Locator = self._place
        for title in titles:
            label = f'normalize-space() = "{title}" or normalize-space() = "{title} (Optional)"'
            found = found.locator(f"xpath=.//label[{label}]/{_GROUP}").first
        assert isinstance(found, Locator)
        return found

    def write(self, text: str, *titles: str) -> None:
        """Writes into a field of text or a number."""
        self.field(*titles).locator("textarea, input").first.fill(text)

    def choose(self, choice: str, *titles: str) -> None:
        """Takes one of a field's choices."""
        self.field(*titles).locator("button[aria-haspopup=listbox]").click()
        page = self._place if isinstance(self._place, Page) else self._place.page
        page.get_by_role("option", name=choice, exact=True).click()

    def switch(self, *titles: str) -> None:
        """Turns a switch."""
        self.field(*titles).get_by_role("switch").click()


def choose_from_menu(page: Page, action: str) -> Locator:
    """Chooses from the menu of a run's page; the dialog that opens."""
    page.locator("button[aria-haspopup=menu]").first.click()
    page.get_by_role("menuitem", name=action, exact=True).click()
    return page.locator("[role=dialog], [role=alertdialog]")
