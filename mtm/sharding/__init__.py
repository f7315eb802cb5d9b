"""From logical axes to devices: one mesh, one table of rules, one plan."""
