"""Fits a bundle's plan to a text: thresholds of heads, table of keep_ratios, static ranges (`shadowattn calibrate`)."""
