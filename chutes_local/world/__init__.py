"""What the server knows while it runs: accounts, machines, the clock, the journal. No HTTP."""
