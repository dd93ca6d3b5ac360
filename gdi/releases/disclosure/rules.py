"""The rules by name, so that a test can show the attack that each of them stops."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """One rule of docs/disclosure.md. All are on; only tests switch one off."""

    PEOPLE = "people"  # the floor counts carriers, not copies
    OTHER_ALLELE = "other-allele"  # the floor holds for the carriers of any other allele as well
    ZERO = "zero"  # zero does not pass
    CALLS = "calls"  # few people without a call make AN an interval
    CLASSES = "classes"  # genotype classes leave only where the descriptor says so
    SUMS = "sums"  # every 0/1 sum of genotype cells that the rows determine is checked
    PARTS = "parts"  # only pieces of which nothing was told are looked at, and each passes the floor
    SITES = "sites"  # alleles of one site are asked together: one that left speaks for the others
    KINDS = "kinds-together"  # whatever kind of release said it counts
    GENOTYPES = "genotypes"  # an effect and its standard error are judged as the genotype counts they can be solved for
    NUMBERS = "numbers"  # a linear model is for numbers
    WHOLE = "whole-tables"  # where the descriptor says so: a table leaves whole, or its columns, each whole or not
    LINKED = "linked"  # a column is told of in one table
    GROUPS = "groups"  # a mean is of 20 people
    DOMINANCE = "dominance"  # few people have not most of a sum
    APART = "apart"  # enough people differ from the commonest value
    DIGITS = "digits"  # means and variances have three digits
    VALUES = "values"  # a number whose exact sums leave has many values
    PAIRS = "pairs"  # exact sums leave where people by every two of their categories are exact
    EQUATIONS = "equations"  # fewer exact sums leave than could be solved for each person
    LEVERAGE = "leverage"  # of no combination of columns have few people most, and a cohort's questions are nested
    ODD = "odd"  # of no exact sum are the last digits those of few people alone
    BITS = "bits"  # exact sums over categories say less, in bits, than who is in them
    EXTREME = "extreme"  # a round takes nobody's |x·β| above 15
    SCORES = "scores"  # a score is shown by `moments`, which knows what it is made of
    KEYS = "keys"  # contigs and alleles are normalised before they are compared
    SPLITS = "splits"  # the cells of a split leave all or none
    LEDGER = "ledger"  # what left of a cohort is answered again, never computed anew
    UNLISTED = "unlisted"  # a rare alternate allele reads as one that the file does not have
