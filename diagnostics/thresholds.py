"""The thresholds that decide whether a diagnostic reports something, and how severe that is.

Constants of an algorithm that decide nothing by themselves, such as block sizes and numbers of folds, stay in their
modules. Where a comment names no source, the value is a convention of this project, chosen by judgement and not fitted
to anything; `docs/data_quality.md` and `docs/fit.md` state it to users.
"""

from typing import NamedTuple

from diagnostics.severity import Grades


class Thresholds(NamedTuple):
    """All thresholds, by the diagnostic that reads them. Shares go from 0 to 1."""

    # Any diagnostic. Share of the examples of a split that are redundant, mislabelled by a copy, or of no use: one in a
    # hundred moves a test figure by as much as its interval on 10,000 rows; one in ten is a tenth of the training.
    affected: Grades = Grades(high=0.10, medium=0.01, low=0.0)
    # A difference of one point of accuracy, or a hundredth of a label's variance, that is not worth acting on.
    point: float = 0.01
    # Level of a single test (Fisher's convention).
    significance: float = 0.05

    # Duplicates. Share of a later split that is in an earlier one as well: figures on it are too good by up to that.
    leaked: Grades = Grades(high=0.01, medium=0.0, exclusive=True)
    # Deviations of a regression's labels within which two labels count as the same.
    same_label: float = 0.1

    # Missing values. Up to 5 % of a column, the choice of imputation hardly matters (Schafer 1999, section 1).
    few_missing: float = 0.05
    # From one half on, most of what a model reads of a column or a table is imputed.
    mostly_missing: float = 0.5
    # Difference of class shares between rows with and without a value. Around one half, 0.2 and 0.5 are effects between
    # small and medium, and beyond large (h of Cohen 1988, section 6.2).
    informative_shares: Grades = Grades(high=0.5, medium=0.2, low=0.0)
    # The same of means, in standard deviations of the label: 0.5 is a medium effect (Cohen 1988, section 2.2).
    informative_means: Grades = Grades(high=2.0, medium=0.5, low=0.0)

    # Columns. Share of validation and test rows with a value that training never showed.
    unseen_values: Grades = Grades(medium=0.01, low=0.0)
    # Correlation of two columns of which one is the other rounded to three figures.
    same_column: float = 1 - 1e-5
    # Share of constant values from which on an image is mostly border.
    constant_pixels: Grades = Grades(low=0.5)
    # Share of the error that a column alone removes: nearly all of it; or much of it, and far more than any other one.
    perfect_column: float = 0.98
    suspicious_column: float = 0.9
    suspicious_lead: float = 0.3

    # Balance. Training rows of the largest class for one of the smallest. Of two classes, 3, 10 and 100 are shares of
    # 25 %, 9 % and 1 %.
    class_ratio: Grades = Grades(high=100.0, medium=10.0, low=3.0)
    # Share of the largest class from which on its share alone is an accuracy that many would call good.
    majority_share: float = 0.8
    # Training rows of a class below which folds and figures of the class depend on single rows.
    few_class_rows: int = 10
    # Skewness of the exponential distribution: a mean says little of a usual label.
    skewness: float = 2.0
    # Robust deviations from the median of a label far out: one in 10^15 normal ones.
    far_label: float = 8.0
    # Share of the squared deviations that labels far out make up.
    far_labels_share: float = 0.5

    # Image anomalies. Levels of 0 to 255: range of a blank image, standard deviation of a nearly constant one, mean of
    # one that is much too dark or too bright. An image also has to lie this many robust deviations from the others.
    blank_range: float = 3
    flat_deviation: float = 4.0
    dark_level: float = 25.0
    bright_level: float = 230.0
    image_deviations: float = 3.0
    # Times that a side differs from the usual one, and times that the aspect ratio does.
    image_side_times: float = 4.0
    image_aspect_times: float = 2.0

    # Text anomalies. Letters and digits of an empty text, words of a short one, times the usual length of a long one.
    empty_text_letters: int = 3
    short_text_words: int = 3
    long_text_times: float = 10
    # Share of letters and digits below which a text is mostly something else.
    letter_share: float = 0.5
    # Robust deviations from the other texts (Iglewicz & Hoaglin 1993, section 3).
    text_deviations: float = 3.5
    # Share of the texts that are truncated, below which that is not reported; and share of their tokens that is lost.
    truncated_texts: float = 0.1
    truncated_tokens: Grades = Grades(medium=0.5, low=0.0)

    # Outliers. Robust deviations of the logarithm of the distance to the fifth neighbour, and times the usual distance.
    outlier_deviations: float = 4.0
    outlier_times: float = 2.0
    # Share of normally distributed rows that are nearer than any outlier.
    outlier_normal_share: float = 0.999
    # Times the usual distance from which on a row affects the scaling of its columns for all others.
    outlier_distance: Grades = Grades(medium=50.0, low=0.0)

    # Impossible values. Share of a column's range by which a customary code stands apart, and any other value does.
    code_gap: float = 0.5
    lone_value_gap: float = 9.0
    # Share of rows below zero up to which they are slips in a column of counts.
    negative_counts: float = 0.01

    # Label errors. Probability from which on a label is more likely wrong than right.
    wrong_label: float = 0.5
    # Level of the test that there are wrong labels at all.
    wrong_labels_level: float = 0.05
    # Share of such labels; the test sets of ten common benchmarks have 3.3 % on average (Northcutt et al. 2021).
    wrong_labels: Grades = Grades(high=0.05, medium=0.01, low=0.0, exclusive=True)

    # Groups. Accuracy by which shuffled folds look better than folds of whole groups; of a regression, share of the
    # error.
    optimism_accuracy: Grades = Grades(high=0.02, medium=0.005, low=0.0)
    optimism_error: Grades = Grades(high=0.1, medium=0.02, low=0.0)
    # Share of the training rows that has to remain for dropping the others to be a remedy.
    remaining_rows: float = 0.5

    # Shift. Level of each question asked of the two samples: an audit asks several.
    shift_significance: float = 0.01
    # Rows of each side that a comparison takes.
    shift_rows: int = 20
    # With many rows everything differs, so the size decides. AUC of the two-sample classifier; 0.6 and 0.75 are normal
    # distributions whose means are 0.36 and 0.95 standard deviations apart.
    shift_auc: Grades = Grades(high=0.75, medium=0.6, low=0.0)
    # Share of the labels that would have to change (total variation).
    shift_labels: Grades = Grades(high=0.15, medium=0.05, low=0.0)

    # Quantity. Rows of a class, as a share of those of the median other class, below which it is small.
    small_class: float = 2 / 3
    # p-value of the test for lack of fit below which a learning curve is not used.
    misfit: float = 0.01

    # Fit. Gap between training and held-out scores that is acceptable; R2 is noisier than accuracy.
    margin_accuracy: float = 0.05
    margin_r2: float = 0.10
    # Number of margins by which a baseline on unseen rows is ahead of the model on its training rows, and number of
    # margins in the lower bound of the gap.
    underfit: Grades = Grades(high=2.0, medium=0.0, exclusive=True)
    overfit: Grades = Grades(high=3.0, medium=0.0, exclusive=True)
    # Score on random labels from which on the model could have memorised its training rows (Zhang et al. 2017).
    memorised: float = 0.9
    # Share of its least value by which a validation loss has risen at the end.
    risen_loss: float = 0.1
    # Score by which the best baseline is ahead.
    baseline_lead: Grades = Grades(high=0.1, medium=0.0, exclusive=True)
    # Expected calibration error: its value, and the lower bound of its interval.
    calibration_error: float = 0.05
    calibration_bound: float = 0.1
    # Level at which a pipeline is accused of reading labels: whoever is accused in vain searches long.
    control: float = 0.001
    # Correlation with true values of a model that was trained on random labels.
    control_correlation: float = 0.05

    # Optimisation. A gradient norm is a spike at this many times the median of its neighbours, and this many robust
    # deviations above them.
    spike_times: float = 5.0
    spike_deviations: float = 8.0
    # Share of the total fall of the loss that the last part of a training still makes.
    still_falling: float = 0.10
    # Share of a training in which the loss moves by less than this share of its fall.
    plateau_share: float = 0.25
    plateau_fall: float = 0.01
    # Share of dead units of a layer: some of its width is lost; and too many for an accident of the initialisation.
    dead_units: float = 0.2
    most_dead_units: float = 0.5


THRESHOLDS = Thresholds()
