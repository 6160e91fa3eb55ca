"""How things show themselves: tables as text, in a terminal with colours, and in a notebook."""
