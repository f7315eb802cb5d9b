"""Mixtures of experts: a router says who works on what, a dispatch who gets a place, an engine does
it. `experts.Experts` is the channel mixer that puts the three together."""
