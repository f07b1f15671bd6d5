"""What was learned: tables, figures, the HTML page. Reads studies, never runs one."""
