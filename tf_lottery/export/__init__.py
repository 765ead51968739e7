"""Ships a ticket: files that are small because the network is sparse.

Each exporter writes a file under a temporary name, runs it as the phone or the
server will, and compares the results with the Keras model. Only a file that
passes is moved into place.
"""

from tf_lottery.export.keras_file import to_keras
from tf_lottery.export.prediction import predict
from tf_lottery.export.reports import Difference
from tf_lottery.export.reports import ExportReport
from tf_lottery.export.reports import WeightReport
from tf_lottery.export.saved_model import to_saved_model
from tf_lottery.export.tflite import to_tflite
from tf_lottery.export.verification import ExportError
