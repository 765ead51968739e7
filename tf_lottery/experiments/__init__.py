"""Experiments: replicates of declared searches, with their controls."""

from tf_lottery.experiments import controls
from tf_lottery.experiments.checking import CONTROLS
from tf_lottery.experiments.declared import of_run
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.experiments.proving import Proof
from tf_lottery.experiments.proving import prove
from tf_lottery.experiments.retraining import retrain
from tf_lottery.experiments.running import find
from tf_lottery.experiments.running import run
from tf_lottery.experiments.running import train_controls
from tf_lottery.experiments.trained import chosen_levels
from tf_lottery.experiments.trained import is_done
from tf_lottery.experiments.trained import run_dir
from tf_lottery.experiments.tuning import Candidate
from tf_lottery.experiments.tuning import Tuning
from tf_lottery.experiments.tuning import tune
