"""Tests: folders mirror the packages; the promises of the house itself stand beside this file."""
