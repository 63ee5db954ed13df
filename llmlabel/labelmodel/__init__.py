"""Votes to probabilities: label models with scikit-learn's conventions, one per file."""

from llmlabel.labelmodel.base import LabelModel
from llmlabel.labelmodel.crowd import GLAD, MACE
from llmlabel.labelmodel.dawid_skene import DawidSkene
from llmlabel.labelmodel.explanation import Explanation
from llmlabel.labelmodel.labelset import LabelSet
from llmlabel.labelmodel.majority import MajorityVote
from llmlabel.labelmodel.per_class import PRESENCE, OneModelPerClass
from llmlabel.labelmodel.sequence import SequenceModel
from llmlabel.labelmodel.snorkel_style import SnorkelStyleModel
from llmlabel.labelmodel.triplet import TripletModel
from llmlabel.labelmodel.two_rate import FellBackWarning, TwoRateModel
from llmlabel.labelmodel.weighted_vote import WeightedVote

__all__ = [
    "GLAD",
    "MACE",
    "PRESENCE",
    "DawidSkene",
    "Explanation",
    "FellBackWarning",
    "LabelModel",
    "LabelSet",
    "MajorityVote",
    "OneModelPerClass",
    "SequenceModel",
    "SnorkelStyleModel",
    "TripletModel",
    "TwoRateModel",
    "WeightedVote",
]
