"""Votes to probabilities: label models with scikit-learn's conventions, one per file."""

from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.dawid_skene import DawidSkene
from llmlabel.labelmodel.explanation import Explanation
from llmlabel.labelmodel.labelset import LabelSet
from llmlabel.labelmodel.majority import MajorityVote
from llmlabel.labelmodel.two_rate import TwoRateModel

__all__ = ["DawidSkene", "Explanation", "LabelModel", "LabelSet", "MajorityVote", "TwoRateModel"]
