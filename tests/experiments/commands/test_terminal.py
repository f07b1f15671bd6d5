"""Names are printed as they are: nothing in them is read as markup."""

from experiments.commands import terminal
from experiments.progress import log

NAME = "data/[red]:cat:[/]"


def test_names_are_printed_as_they_are(capsys):
    terminal.say(NAME)
    terminal.print_rows(("name",), [[NAME]])
    log.remark(NAME)
    said = capsys.readouterr()
    assert said.out.count(NAME) == 2
    assert NAME in said.err
