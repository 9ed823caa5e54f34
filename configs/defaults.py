"""Every field of a Plumbline config, once: its meaning and unit, its default, and what a value of it changes.

An experiment's file starts from `get_config()` and changes what differs. Configs are locked: a field that is not here
is an error. Durations are text with a unit: "40 epochs", "500 steps", "100000 examples", "5 percent" (of the training)
or, where wall time makes sense, "10 minutes"; "" means never.

To add a field, write it here. The function around the default says what a value changes (`configs/fields.py` has the
details): a scalar in the train state (`hyperparameter`), other data of a compiled program (`traced`), the program
itself (`constant`), all trainings of a population (`shared`), or no result (`operational`). After the default stand the
possible values, and whether a resumed run `may_change` the value.
"""

import ml_collections

from configs.fields import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_OR_ONE,
    UINT32,
    Pretrained,
    constant,
    default_values,
    flatten,
    hyperparameter,
    one_of,
    operational,
    shared,
    traced,
)


def get_config() -> ml_collections.ConfigDict:
    """The config with the default of each field, locked."""
    return default_values(_describe()).lock()


def _describe() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    # Seed of everything random in a run: initial parameters, order of examples, dropout, augmentation, random splits.
    config.seed = traced(0, UINT32, instead="choose the seeds of the command instead")

    # ---- Data -----------------------------------------------------------------------------------------------------
    config.data = data = ml_collections.ConfigDict()
    # Where examples come from: "digits", "tfds:NAME", "folder:PATH" (of images or texts), "prepared:DIR" (what
    # plumbline prepare wrote), "csv:PATH", "parquet:PATH", "sklearn:NAME", or "text:PATH" for language modelling.
    data.source = shared("digits", defines_test=True)
    # What is predicted: "classification", "regression", or "auto": the source's own task; in a table, regression if the
    # target has fractions or more than 20 distinct numbers.
    data.task = shared("auto", defines_test=True)
    # Test examples: "auto" (the source's own test split; without one, 20 percent of its rows), "N percent" of the rows,
    # "split:NAME" (of a TFDS set or a folder), or the path of another file or folder of the same kind.
    data.test = shared("auto", defines_test=True)
    # Validation examples, which choose the best checkpoint and stop early: "none", "N percent" of the training rows
    # (whole groups, where the source has groups; else by class), or "split:NAME".
    data.validation = shared("10 percent")
    # Names of the classes that are kept, in the order of the source: no split has rows of others; () keeps all.
    data.classes = shared((), defines_test=True)
    # Training rows of each class that are kept, drawn by the seed, fewer of them among more; 0: all. The other splits
    # keep theirs.
    data.examples_per_class = shared(0, NOT_NEGATIVE)
    # Directory of an audit (plumbline audit), whose findings the next two name as "findings:NAME", or several names
    # with commas. A run keeps the lists of rows, and needs the audit no more.
    data.findings = shared("", may_change=True)
    # Training and validation rows that are left out; "" none.
    data.drop = shared("")
    # Training rows that count less, each by as much as the finding says; "" none.
    data.weights = shared("")
    # Folder for decoded caches and prepared sets; "" means $PLUMBLINE_CACHE, or else ~/.cache/plumbline.
    data.cache_dir = shared("", may_change=True)
    # Training examples and classes of the source; 0: as the source says. Planning takes these where it is not at hand.
    data.num_examples = shared(0, NOT_NEGATIVE, may_change=True)
    data.num_classes = shared(0, NOT_NEGATIVE, may_change=True)
    # Largest decoded set, in GiB, that is kept in a memory-mapped cache; a larger one is streamed by worker processes.
    data.cache_limit_gib = shared(8.0, NOT_NEGATIVE)
    # Worker processes that decode a streamed set; -1 means one a core.
    data.workers = shared(-1, may_change=True)
    # Folder of TFDS sets for "tfds:NAME"; "" means TFDS's own default.
    data.tfds_dir = shared("", may_change=True)
    # Weight of each class in the training loss: "none", or "balanced" (inverse to its frequency in the training rows).
    data.class_weights = constant("none")

    # Images. Height and width in pixels that every image is brought to; 0 means the source's own, where it has one.
    data.image_size = shared(0, pretrained=Pretrained.IF_UNSET)
    # Colour channels that every image is brought to: 1 (grey) or 3 (RGB; alpha is laid over black); 0 means the
    # source's own, where it has one.
    data.channels = shared(0, pretrained=Pretrained.IF_UNSET)
    # How an image of another shape is brought to `image_size`: "crop" (scale its short side, cut the centre) or
    # "stretch".
    data.resize = shared("crop")
    # Corrupt images that are counted and skipped before it becomes an error.
    data.max_corrupt = shared(0, NOT_NEGATIVE)
    # How inputs are scaled: "fitted" (zero mean, unit deviation over the training rows, per channel or column),
    # "imagenet" (the usual RGB constants), "signed" (images in -1 to 1) or "none" (images in 0 to 1, table columns as
    # they are).
    data.normalize = constant("fitted", pretrained=Pretrained.REPLACES)

    # Tables. Column that is predicted.
    data.target = shared("", defines_test=True)
    # Column that names the group of a row (person, hospital, writer), for splits and for metrics by group; "" none.
    data.group = shared("")
    # Column that holds a weight for each example, at least 0; "" none.
    data.weight = shared("")
    # Columns that are left out.
    data.ignore = shared(())
    # Columns read as categories although they hold numbers.
    data.categorical = shared(())
    # Texts that mean that a value is missing.
    data.missing_values = shared(("", "?", "NA", "N/A", "null", "NULL", "None"))

    # Text. Column of a table that holds the text of an example, which then is its only input; "": there is none.
    data.text = shared("")
    # How texts become tokens: a tokenizer.json, a directory that has one, or "characters" (a token for each character
    # of the training text). "", with model.name="pretrained": that of `transfer.source`.
    data.tokenizer = shared("", pretrained=Pretrained.IF_UNSET)
    # Tokens of an example: longer texts are cut at their end, shorter ones filled up.
    data.text_length = shared(128, AT_LEAST_ONE)
    # Language modelling: tokens from the begin of one training window to that of the next; 0: `text_length`.
    data.text_stride = shared(0, NOT_NEGATIVE)

    # ---- Augmentation, on the device, of training batches only. 0 or False leaves each one out. --------------------
    config.augment = augment = ml_collections.ConfigDict()
    # Pixels of zero padding before a random crop to the original size.
    augment.crop_padding = constant(0, NOT_NEGATIVE, random=True, images=True)
    # Mirror half of the images, left to right.
    augment.flip = constant(False, random=True, images=True)
    # Largest random translation, in pixels, in each direction; edges are repeated.
    augment.shift = constant(0, NOT_NEGATIVE, random=True, images=True)
    # Largest relative change of brightness, contrast and (for RGB) saturation; 0.4 is usual.
    augment.color = hyperparameter(0.0, SHARE, random=True, images=True)
    # Alpha of the Beta distribution that mixup draws its share from (Zhang et al. 2018); 0.2 is usual.
    augment.mixup = hyperparameter(0.0, NOT_NEGATIVE, random=True)
    # Alpha of the Beta distribution that CutMix draws its share from (Yun et al. 2019); 1.0 is usual.
    augment.cutmix = hyperparameter(0.0, NOT_NEGATIVE, random=True, images=True)

    # ---- Model ----------------------------------------------------------------------------------------------------
    config.model = model = ml_collections.ConfigDict()
    # Which model: a name registered in `models`, whose own fields stand below under that name; or "pretrained": that of
    # `transfer.source`.
    model.name = constant("resnet")
    # Type of the arithmetic: "float32" or "bfloat16"; parameters, optimizer and logits stay float32.
    model.dtype = constant("float32")
    # Share of activations dropped (MLP: after each hidden layer; ResNet, ConvNeXt: before the head; ViT, BERT, GPT:
    # after each sublayer, of texts after the embedding as well).
    model.dropout = hyperparameter(0.0, SHARE, random=True)
    # Share of residual branches dropped in the last block, growing linearly from the first (Huang et al. 2016).
    model.stochastic_depth = hyperparameter(0.0, SHARE, random=True)
    # Activations that are recomputed in the backward pass, block by block, to save memory (all but linear and MLP):
    # "none", "full" (all of a block), "dots" (all but matrix products) or "dots_without_batch" (the products of
    # attention as well).
    model.remat = constant("none", may_change=True)

    model.linear = ml_collections.ConfigDict()

    model.mlp = mlp = ml_collections.ConfigDict()
    # Units of each hidden layer.
    mlp.hidden_sizes = constant((128, 128))
    # Units of the embedding of a categorical column; 0 means min(50, (categories + 1) // 2).
    mlp.embedding_size = constant(0)
    # Activation: "relu", "gelu" or "silu".
    mlp.activation = constant("relu")

    model.resnet = resnet = ml_collections.ConfigDict()
    # Layers: 18 or 34 (basic blocks), 50 or 101 (bottlenecks, v1.5).
    resnet.depth = constant(18)
    # Channels of the first stage; the paper's is 64.
    resnet.width = constant(64)
    # "batch" or "group" (32 groups, or as many as divide the width).
    resnet.norm = constant("batch")
    # First layers: "large" (7x7, stride 2, max pooling), "small" (3x3, stride 1), "auto" (small under 64 pixels).
    resnet.stem = constant("auto")

    model.vit = vit = ml_collections.ConfigDict()
    # "Ti", "S", "B", "L" or "H"; "custom" takes the four sizes below.
    vit.variant = constant("custom")
    # Pixels of the side of a patch.
    vit.patch_size = constant(16)
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP ("custom").
    vit.width = constant(64)
    vit.depth = constant(4)
    vit.heads = constant(4)
    vit.mlp_size = constant(256)
    # What the head reads: "token" (a class token), "mean" (of all patches; then there is no class token), or two of
    # them side by side: "token_and_mean" (DINOv2) or "token_and_distillation" (DeiT).
    vit.pooling = constant("token")
    # Position embeddings: "learned" or "sincos2d" (fixed).
    vit.positions = constant("learned")
    # One more token, after the class token, for a head that learns from a teacher (DeiT).
    vit.distillation_token = constant(False)
    # Initial factor on each channel of each residual branch, which is learned; 0: no such factors.
    vit.layer_scale = constant(0.0)
    # Added to the variance in the norms.
    vit.norm_epsilon = constant(1e-6)

    model.convnext = convnext = ml_collections.ConfigDict()
    # "T", "S", "B" or "L"; "custom" takes the depths and widths below.
    convnext.variant = constant("custom")
    # Blocks and channels of each of the four stages ("custom").
    convnext.depths = constant((2, 2, 2, 2))
    convnext.widths = constant((16, 32, 64, 128))
    # Pixels of the side of a patch, which the first convolution takes; the paper's is 4.
    convnext.patch_size = constant(4)
    # Initial factor on each channel of each residual branch, which is learned; 0: no such factors.
    convnext.layer_scale = constant(1e-6)
    # Added to the variance in the norm before the head; in the others it is 1e-6.
    convnext.norm_epsilon = constant(1e-6)

    model.bert = bert = ml_collections.ConfigDict()
    # Rows of the table of tokens; 0: as many as the tokenizer has tokens.
    bert.vocabulary = constant(0)
    # Rows of the table of positions, the longest text in tokens; 0: data.text_length.
    bert.max_length = constant(0)
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP.
    bert.width = constant(128)
    bert.depth = constant(4)
    bert.heads = constant(4)
    bert.mlp_size = constant(512)
    # Rows of the table of segments (BERT: 2), of which the first is that of all texts here; 0: no such table.
    bert.segments = constant(0)
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    bert.activation = constant("gelu")
    # Added to the variance in the norms.
    bert.norm_epsilon = constant(1e-12)
    # What the head reads: "mean" (of the tokens that are there), "token" (the first), "tokens" (each: masked language
    # modelling); "": "tokens" for language modelling, else "mean".
    bert.pooling = constant("", pretrained=Pretrained.IF_UNSET)
    # Activation of the dense layer that the first token goes through with pooling="token": "tanh" (BERT), "relu"
    # (DistilBERT), or "none": no such layer.
    bert.pooler = constant("tanh")

    model.gpt = gpt = ml_collections.ConfigDict()
    # Rows of the table of tokens; 0: as many as the tokenizer has tokens.
    gpt.vocabulary = constant(0)
    # Rows of the table of positions, the longest text in tokens; 0: data.text_length.
    gpt.max_length = constant(0)
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP.
    gpt.width = constant(128)
    gpt.depth = constant(4)
    gpt.heads = constant(4)
    gpt.mlp_size = constant(512)
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    gpt.activation = constant("gelu_tanh")
    # Added to the variance in the norms.
    gpt.norm_epsilon = constant(1e-5)
    # What is read: "last" (the last token that is there), "mean" (of those that are there), "tokens" (each: language
    # modelling); "": "tokens" for language modelling, else "last".
    gpt.pooling = constant("", pretrained=Pretrained.IF_UNSET)

    # ---- Transfer: what a training begins with, and which of it is trained how ------------------------------------
    config.transfer = transfer = ml_collections.ConfigDict()
    # Where the first parameters come from: a run directory, an Orbax checkpoint, a directory of Hugging Face, a
    # .safetensors or .npz file, or "hf:org/name" (docs/transfer.md lists what is understood); "": fresh ones. With
    # model.name="pretrained", the model, its normalisation and (where they are 0) image size and channels as well.
    transfer.source = constant("")
    # Parameters that may be missing in the source and begin fresh: regular expressions, each found in the path of at
    # least one. The head may always be fresh: where the source has none, or one of another shape.
    transfer.allow = constant(())
    # Regular expressions over the paths of parameters (of stacked blocks "blocks/3/mlp/out/kernel", say) that are not
    # trained; batch norms of which all parameters are frozen keep their statistics. ("^(?!head/)",) is a linear probe.
    transfer.freeze = constant(())
    # Factor on the learning rate from each layer to the one before it, as in timm: the head has factor 1; 0: none.
    transfer.layer_decay = hyperparameter(0.0, SHARE_OR_ONE)
    # Peak learning rate of the head; 0: that of the rest.
    transfer.head_learning_rate = hyperparameter(0.0, NOT_NEGATIVE)
    # What the head's learning rate does after the warmup, a name as in `schedule.name`; "": as that of the rest.
    transfer.head_schedule = constant("")
    # Gradual unfreezing: (regular expression over paths as above, duration) pairs. Until so much of the training is
    # over, what the expression is found in is not moved; the first pair that is found in a path counts.
    transfer.unfreeze = traced((), program=_patterns)
    # Low-rank adapters (Hu et al. 2021): regular expressions over the paths of linear layers ("blocks/attention/query",
    # without numbers of stacked blocks) that get them, and whose kernels are frozen; () gives none. The product of the
    # two, of this rank, counts alpha / rank times.
    transfer.lora = lora = ml_collections.ConfigDict()
    lora.patterns = constant(())
    lora.rank = constant(8, AT_LEAST_ONE)
    lora.alpha = constant(16.0, POSITIVE)
    # Where only the head is trained, and nothing is drawn at random: compute what the head reads once, for all splits,
    # and train and evaluate on that.
    transfer.cache_features = operational(False, runs_only="leave it out")
    # Train from scratch as well, as long, in `scratch` of the run directory, and report the difference
    # (plumbline train).
    transfer.check = operational(False, runs_only="add a variant from scratch, {'transfer.source': ''}")

    # ---- Objective ------------------------------------------------------------------------------------------------
    config.objective = objective = ml_collections.ConfigDict()
    # What is minimised: "auto" (the task's own), "cross_entropy" or "squared_error"; of a text for language modelling
    # "next_token" (its own) or "masked_token" (BERT's).
    objective.name = constant("auto")
    # Share of the label spread evenly over all classes.
    objective.label_smoothing = hyperparameter(0.0, SHARE)

    # ---- Optimizer ------------------------------------------------------------------------------------------------
    config.optimizer = optimizer = ml_collections.ConfigDict()
    # "sgd", "adam", "adamw", "lion", "lamb", "adafactor" or "muon".
    optimizer.name = constant("adamw")
    # Peak learning rate; the schedule multiplies it.
    optimizer.learning_rate = hyperparameter(1e-3, POSITIVE)
    # Decoupled from the gradient for adamw, lion, lamb, adafactor and muon; added to the gradient for sgd and adam.
    optimizer.weight_decay = hyperparameter(0.0, NOT_NEGATIVE)
    # Momentum of sgd and muon.
    optimizer.momentum = hyperparameter(0.9, SHARE)
    # Nesterov's form of that momentum (sgd and muon).
    optimizer.nesterov = constant(True)
    # Decay of the first and second moments (adam, adamw, lion, lamb; muon's other parameters).
    optimizer.b1 = hyperparameter(0.9, SHARE)
    optimizer.b2 = hyperparameter(0.999, SHARE)
    # Largest global norm of the gradient; larger ones are scaled down to it; 0 means no limit.
    optimizer.clip_norm = hyperparameter(0.0, NOT_NEGATIVE)
    # Factors on the weight decay of each parameter: (regular expression over its path, factor), the first that is found
    # in the path wins. A parameter that none matches, or a pattern that is found in no parameter, is an error.
    optimizer.weight_decay_rules = constant(((r"(^|/)(bias|scale)$", 0.0), (r".", 1.0)))
    # Factors on the learning rate of each parameter, likewise.
    optimizer.learning_rate_rules = constant(((r".", 1.0),))

    # ---- Pruning: the smallest weights become zero, and stay so -----------------------------------------------------
    config.prune = prune = ml_collections.ConfigDict()
    # Share of the weights that are zero in the end, exactly; 0: nothing is pruned.
    prune.sparsity = traced(0.0, SHARE, program=bool)
    # When the share begins to rise from 0, and when it is reached; the rest of the training is fine-tuning. In between,
    # it rises fast at first and ever more slowly (Zhu & Gupta 2017, section 3), once in each interval `every`.
    prune.begin = traced("20 percent")
    prune.end = traced("70 percent")
    prune.every = traced("1 percent")
    # Whose smallest weights: of all that are pruned ("global"), or of each parameter, in each of stacked blocks, which
    # all come to the same share ("layer").
    prune.scope = constant("global", one_of("global", "layer"))
    # Which weights: regular expressions over the paths of trained parameters, as in `transfer.freeze`; biases, norms
    # and embeddings of tokens and positions are no kernels.
    prune.parameters = constant((r"(^|/)kernel$",))

    # ---- Learning-rate schedule -----------------------------------------------------------------------------------
    config.schedule = schedule = ml_collections.ConfigDict()
    # After the warmup: "constant", "cosine", "linear", "step" or "rsqrt".
    schedule.name = constant("cosine")
    # Linear rise from 0 to the peak.
    schedule.warmup = traced("5 percent")
    # Where "cosine" and "linear" end, as a share of the peak.
    schedule.end = constant(0.0)
    # "step": when the rate is multiplied by `step_factor`.
    schedule.step_at = traced(("50 percent", "75 percent"), program=len)
    schedule.step_factor = constant(0.1)
    # "rsqrt": length over which the rate begins to fall as 1 / sqrt(step) (Zhai et al. 2022); "" means the warmup.
    schedule.rsqrt_timescale = traced("")

    # ---- Training -------------------------------------------------------------------------------------------------
    config.train = train = ml_collections.ConfigDict()
    # How long to train.
    train.duration = traced("40 epochs")
    # Examples in one step, over all devices.
    train.batch_size = constant(64, AT_LEAST_ONE)
    # Parts a batch is cut into, whose gradients are added up before the one update, to save memory.
    train.accumulation_steps = constant(1, AT_LEAST_ONE)
    # Decay of the moving average of the parameters that evaluation uses; 0 means none.
    train.ema_decay = hyperparameter(0.0, SHARE, adds_state=True)
    # How often training metrics are written and the validation split is evaluated.
    train.log_every = traced("1 epochs")
    train.evaluate_every = traced("1 epochs")
    # How often a checkpoint is saved, in wall time or in steps; besides, one is saved at the end. Populations, whose
    # members are at steps of their own, save every minute where this is in steps.
    train.checkpoint_every = traced("1 minutes")
    # Checkpoints that are kept, newest first; the best on the validation split is kept besides.
    train.keep_checkpoints = constant(2, AT_LEAST_ONE)
    # Metric that chooses the best checkpoint; "auto" means accuracy, or mse for regression, or loss for language
    # modelling. Without a validation split the last checkpoint counts as the best.
    train.best_metric = traced("auto")
    # Stop when the best metric has not improved for this long; "" never.
    train.patience = traced("")
    # Updates in a row that may be skipped for a loss or gradient that is not finite before the run stops as diverged.
    train.max_skipped = constant(20, AT_LEAST_ONE)
    # Then: "stop" (exit 3, the last good checkpoint is kept) or "rollback" (once: back to that checkpoint, and on with
    # the batches that follow those of the failure; should it diverge again, stop). Members of a population stop.
    train.on_divergence = constant("stop", one_of("stop", "rollback"))
    # Trace for TensorBoard and Perfetto of so many steps, from this step on; 0 steps: none.
    train.profile = profile = ml_collections.ConfigDict()
    profile.start = operational(10, NOT_NEGATIVE)
    profile.steps = operational(0, NOT_NEGATIVE)
    # Metrics for TensorBoard as well.
    train.tensorboard = operational(True)

    # ---- Devices --------------------------------------------------------------------------------------------------
    # A run may go on with another mesh, on another number of devices: the batches stay the same.
    config.mesh = mesh = ml_collections.ConfigDict()
    # Devices along each axis; they multiply to all there are, and one may be -1: what the others leave over. Examples
    # are split over `data` and `fsdp`, parameters and optimizer state over `fsdp` and `tensor`.
    mesh.data = shared(-1, may_change=True)
    mesh.fsdp = shared(1, may_change=True)
    mesh.tensor = shared(1, may_change=True)

    config.parallel = parallel = ml_collections.ConfigDict()
    # "jit": one program over the whole mesh. "pmap": the same step on each device's part of a batch; data axis only.
    parallel.mode = shared("jit", may_change=True)
    # How parameters are split: (regular expression over the path, an entry for each dimension: an axis, a tuple of axes
    # or None), the first that is found wins. What none matches goes by the model's rules for `tensor`, and over `fsdp`
    # along the largest dimension that it divides.
    parallel.rules = shared((), may_change=True)
    # Parameters of fewer numbers (in each of stacked layers) are left whole by the rule for `fsdp`.
    parallel.fsdp_min_size = shared(4096, AT_LEAST_ONE, may_change=True)

    # ---- Execution ------------------------------------------------------------------------------------------------
    config.execution = execution = ml_collections.ConfigDict()
    # How steps are dispatched: "loop" (one at a time), "scan" (several in one program), or "auto": whichever is faster
    # on the first steps of the run. The choice is written to the run directory and repeated on resume.
    execution.mode = shared("auto")
    # Most steps in one dispatch of "scan".
    execution.scan_steps = shared(32, AT_LEAST_ONE)
    # Keep compiled programs between runs, in this folder; "" means the one of `data.cache_dir`, "none" keeps none.
    execution.compilation_cache = shared("", may_change=True)

    config.population = population = ml_collections.ConfigDict()
    # How trainings that share a program (of a sweep, folds, seeds) are run on each device: "vmap" (stacked), "map" (one
    # after the other inside the program), "loop" (step by step from Python), or "auto": the fastest on this machine.
    population.mode = shared("auto", may_change=True)
    # Trainings at once, over all devices; 0: 8 on each CPU device (32 of those that are all there, as folds are), 64 on
    # each GPU or TPU, or as many as memory allows.
    population.lanes = shared(0, NOT_NEGATIVE, may_change=True)

    # ---- Evaluation -----------------------------------------------------------------------------------------------
    config.evaluation = evaluation = ml_collections.ConfigDict()
    # Examples in one batch of evaluation or prediction, over all devices; 0 means that of training.
    evaluation.batch_size = constant(0, NOT_NEGATIVE)
    # Equal-width bins of the calibration error (Guo et al. 2017).
    evaluation.calibration_bins = constant(15, AT_LEAST_ONE)

    return config


def _patterns(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return [pattern for pattern, _ in pairs]


FIELDS = flatten(_describe())
"""The description of each field by its path, in the order of this page."""
