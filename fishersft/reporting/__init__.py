"""What a run found, for people: tables, figures and the HTML report, all from one `RunReport`."""
