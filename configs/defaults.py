"""Every field of a Plumbline config, once, with its meaning, its unit and its default.

An experiment's file starts from `get_config()` and changes what differs. Configs are locked: a field that is not here
is an error. Durations are text with a unit: "40 epochs", "500 steps", "100000 examples", "5 percent" (of the training)
or, where wall time makes sense, "10 minutes"; "" means never.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    # Seed of everything random in a run: initial parameters, order of examples, dropout, augmentation, random splits.
    config.seed = 0

    # ---- Data -----------------------------------------------------------------------------------------------------
    config.data = data = ml_collections.ConfigDict()
    # Where examples come from: "digits", "tfds:NAME", "folder:PATH" (of images or texts), "prepared:DIR" (what
    # plumbline prepare wrote), "csv:PATH", "parquet:PATH", "sklearn:NAME", or "text:PATH" for language modelling.
    data.source = "digits"
    # What is predicted: "classification", "regression", or "auto": the source's own task; in a table, regression if the
    # target has fractions or more than 20 distinct numbers.
    data.task = "auto"
    # Test examples: "auto" (the source's own test split; without one, 20 percent of its rows), "N percent" of the rows,
    # "split:NAME" (of a TFDS set or a folder), or the path of another file or folder of the same kind.
    data.test = "auto"
    # Validation examples, which choose the best checkpoint and stop early: "none", "N percent" of the training rows
    # (whole groups, where the source has groups; else by class), or "split:NAME".
    data.validation = "10 percent"
    # Names of the classes that are kept, in the order of the source: no split has rows of others; () keeps all.
    data.classes = ()
    # Training rows of each class that are kept, drawn by the seed, fewer of them among more; 0: all. The other splits
    # keep theirs.
    data.examples_per_class = 0
    # Directory of an audit (plumbline audit), whose findings the next two name as "findings:NAME", or several names
    # with commas. A run keeps the lists of rows, and needs the audit no more.
    data.findings = ""
    # Training and validation rows that are left out; "" none.
    data.drop = ""
    # Training rows that count less, each by as much as the finding says; "" none.
    data.weights = ""
    # Folder for decoded caches and prepared sets; "" means $PLUMBLINE_CACHE, or else ~/.cache/plumbline.
    data.cache_dir = ""
    # Training examples and classes of the source; 0: as the source says. Planning takes these where it is not at hand.
    data.num_examples = 0
    data.num_classes = 0
    # Largest decoded set, in GiB, that is kept in a memory-mapped cache; a larger one is streamed by worker processes.
    data.cache_limit_gib = 8.0
    # Worker processes that decode a streamed set; -1 means one a core.
    data.workers = -1
    # Folder of TFDS sets for "tfds:NAME"; "" means TFDS's own default.
    data.tfds_dir = ""
    # Weight of each class in the training loss: "none", or "balanced" (inverse to its frequency in the training rows).
    data.class_weights = "none"

    # Images. Height and width in pixels that every image is brought to; 0 means the source's own, where it has one.
    data.image_size = 0
    # Colour channels that every image is brought to: 1 (grey) or 3 (RGB; alpha is laid over black); 0 means the
    # source's own, where it has one.
    data.channels = 0
    # How an image of another shape is brought to `image_size`: "crop" (scale its short side, cut the centre) or
    # "stretch".
    data.resize = "crop"
    # Corrupt images that are counted and skipped before it becomes an error.
    data.max_corrupt = 0
    # How inputs are scaled: "fitted" (zero mean, unit deviation over the training rows, per channel or column),
    # "imagenet" (the usual RGB constants), "signed" (images in -1 to 1) or "none" (images in 0 to 1, table columns as
    # they are).
    data.normalize = "fitted"

    # Tables. Column that is predicted.
    data.target = ""
    # Column that names the group of a row (person, hospital, writer), for splits and for metrics by group; "" none.
    data.group = ""
    # Column that holds a weight for each example, at least 0; "" none.
    data.weight = ""
    # Columns that are left out.
    data.ignore = ()
    # Columns read as categories although they hold numbers.
    data.categorical = ()
    # Texts that mean that a value is missing.
    data.missing_values = ("", "?", "NA", "N/A", "null", "NULL", "None")

    # Text. Column of a table that holds the text of an example, which then is its only input; "": there is none.
    data.text = ""
    # How texts become tokens: a tokenizer.json, a directory that has one, or "characters" (a token for each character
    # of the training text). "", with model.name="pretrained": that of `transfer.source`.
    data.tokenizer = ""
    # Tokens of an example: longer texts are cut at their end, shorter ones filled up.
    data.text_length = 128
    # Language modelling: tokens from the begin of one training window to that of the next; 0: `text_length`.
    data.text_stride = 0

    # ---- Augmentation, on the device, of training batches only. 0 or False leaves each one out. --------------------
    config.augment = augment = ml_collections.ConfigDict()
    # Pixels of zero padding before a random crop to the original size.
    augment.crop_padding = 0
    # Mirror half of the images, left to right.
    augment.flip = False
    # Largest random translation, in pixels, in each direction; edges are repeated.
    augment.shift = 0
    # Largest relative change of brightness, contrast and (for RGB) saturation; 0.4 is usual.
    augment.color = 0.0
    # Alpha of the Beta distribution that mixup draws its share from (Zhang et al. 2018); 0.2 is usual.
    augment.mixup = 0.0
    # Alpha of the Beta distribution that CutMix draws its share from (Yun et al. 2019); 1.0 is usual.
    augment.cutmix = 0.0

    # ---- Model ----------------------------------------------------------------------------------------------------
    config.model = model = ml_collections.ConfigDict()
    # Which model: a name registered in `models`, whose own fields stand below under that name; or "pretrained": that of
    # `transfer.source`.
    model.name = "resnet"
    # Type of the arithmetic: "float32" or "bfloat16"; parameters, optimizer and logits stay float32.
    model.dtype = "float32"
    # Share of activations dropped (MLP: after each hidden layer; ResNet, ConvNeXt: before the head; ViT, BERT, GPT:
    # after each sublayer, of texts after the embedding as well).
    model.dropout = 0.0
    # Share of residual branches dropped in the last block, growing linearly from the first (Huang et al. 2016).
    model.stochastic_depth = 0.0
    # Activations that are recomputed in the backward pass, block by block, to save memory (all but linear and MLP):
    # "none", "full" (all of a block), "dots" (all but matrix products) or "dots_without_batch" (the products of
    # attention as well).
    model.remat = "none"

    model.linear = ml_collections.ConfigDict()

    model.mlp = mlp = ml_collections.ConfigDict()
    # Units of each hidden layer.
    mlp.hidden_sizes = (128, 128)
    # Units of the embedding of a categorical column; 0 means min(50, (categories + 1) // 2).
    mlp.embedding_size = 0
    # Activation: "relu", "gelu" or "silu".
    mlp.activation = "relu"

    model.resnet = resnet = ml_collections.ConfigDict()
    # Layers: 18 or 34 (basic blocks), 50 or 101 (bottlenecks, v1.5).
    resnet.depth = 18
    # Channels of the first stage; the paper's is 64.
    resnet.width = 64
    # "batch" or "group" (32 groups, or as many as divide the width).
    resnet.norm = "batch"
    # First layers: "large" (7x7, stride 2, max pooling), "small" (3x3, stride 1), "auto" (small under 64 pixels).
    resnet.stem = "auto"

    model.vit = vit = ml_collections.ConfigDict()
    # "Ti", "S", "B", "L" or "H"; "custom" takes the four sizes below.
    vit.variant = "custom"
    # Pixels of the side of a patch.
    vit.patch_size = 16
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP ("custom").
    vit.width = 64
    vit.depth = 4
    vit.heads = 4
    vit.mlp_size = 256
    # What the head reads: "token" (a class token), "mean" (of all patches; then there is no class token), or two of
    # them side by side: "token_and_mean" (DINOv2) or "token_and_distillation" (DeiT).
    vit.pooling = "token"
    # Position embeddings: "learned" or "sincos2d" (fixed).
    vit.positions = "learned"
    # One more token, after the class token, for a head that learns from a teacher (DeiT).
    vit.distillation_token = False
    # Initial factor on each channel of each residual branch, which is learned; 0: no such factors.
    vit.layer_scale = 0.0
    # Added to the variance in the norms.
    vit.norm_epsilon = 1e-6

    model.convnext = convnext = ml_collections.ConfigDict()
    # "T", "S", "B" or "L"; "custom" takes the depths and widths below.
    convnext.variant = "custom"
    # Blocks and channels of each of the four stages ("custom").
    convnext.depths = (2, 2, 2, 2)
    convnext.widths = (16, 32, 64, 128)
    # Pixels of the side of a patch, which the first convolution takes; the paper's is 4.
    convnext.patch_size = 4
    # Initial factor on each channel of each residual branch, which is learned; 0: no such factors.
    convnext.layer_scale = 1e-6
    # Added to the variance in the norm before the head; in the others it is 1e-6.
    convnext.norm_epsilon = 1e-6

    model.bert = bert = ml_collections.ConfigDict()
    # Rows of the table of tokens; 0: as many as the tokenizer has tokens.
    bert.vocabulary = 0
    # Rows of the table of positions, the longest text in tokens; 0: data.text_length.
    bert.max_length = 0
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP.
    bert.width = 128
    bert.depth = 4
    bert.heads = 4
    bert.mlp_size = 512
    # Rows of the table of segments (BERT: 2), of which the first is that of all texts here; 0: no such table.
    bert.segments = 0
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    bert.activation = "gelu"
    # Added to the variance in the norms.
    bert.norm_epsilon = 1e-12
    # What the head reads: "mean" (of the tokens that are there), "token" (the first), "tokens" (each: masked language
    # modelling); "": "tokens" for language modelling, else "mean".
    bert.pooling = ""
    # Activation of the dense layer that the first token goes through with pooling="token": "tanh" (BERT), "relu"
    # (DistilBERT), or "none": no such layer.
    bert.pooler = "tanh"

    model.gpt = gpt = ml_collections.ConfigDict()
    # Rows of the table of tokens; 0: as many as the tokenizer has tokens.
    gpt.vocabulary = 0
    # Rows of the table of positions, the longest text in tokens; 0: data.text_length.
    gpt.max_length = 0
    # Units of a token, number of blocks, heads of attention, units of the hidden layer of each block's MLP.
    gpt.width = 128
    gpt.depth = 4
    gpt.heads = 4
    gpt.mlp_size = 512
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    gpt.activation = "gelu_tanh"
    # Added to the variance in the norms.
    gpt.norm_epsilon = 1e-5
    # What is read: "last" (the last token that is there), "mean" (of those that are there), "tokens" (each: language
    # modelling); "": "tokens" for language modelling, else "last".
    gpt.pooling = ""

    # ---- Transfer: what a training begins with, and which of it is trained how ------------------------------------
    config.transfer = transfer = ml_collections.ConfigDict()
    # Where the first parameters come from: a run directory, an Orbax checkpoint, a directory of Hugging Face, a
    # .safetensors or .npz file, or "hf:org/name" (docs/transfer.md lists what is understood); "": fresh ones. With
    # model.name="pretrained", the model, its normalisation and (where they are 0) image size and channels as well.
    transfer.source = ""
    # Parameters that may be missing in the source and begin fresh: regular expressions, each found in the path of at
    # least one. The head may always be fresh: where the source has none, or one of another shape.
    transfer.allow = ()
    # Regular expressions over the paths of parameters (of stacked blocks "blocks/3/mlp/out/kernel", say) that are not
    # trained; batch norms of which all parameters are frozen keep their statistics. ("^(?!head/)",) is a linear probe.
    transfer.freeze = ()
    # Factor on the learning rate from each layer to the one before it, as in timm: the head has factor 1; 0: none.
    transfer.layer_decay = 0.0
    # Peak learning rate of the head; 0: that of the rest.
    transfer.head_learning_rate = 0.0
    # What the head's learning rate does after the warmup, a name as in `schedule.name`; "": as that of the rest.
    transfer.head_schedule = ""
    # Gradual unfreezing: (regular expression over paths as above, duration) pairs. Until so much of the training is
    # over, what the expression is found in is not moved; the first pair that is found in a path counts.
    transfer.unfreeze = ()
    # Low-rank adapters (Hu et al. 2021): regular expressions over the paths of linear layers ("blocks/attention/query",
    # without numbers of stacked blocks) that get them, and whose kernels are frozen; () gives none. The product of the
    # two, of this rank, counts alpha / rank times.
    transfer.lora = lora = ml_collections.ConfigDict()
    lora.patterns = ()
    lora.rank = 8
    lora.alpha = 16.0
    # Where only the head is trained, and nothing is drawn at random: compute what the head reads once, for all splits,
    # and train and evaluate on that.
    transfer.cache_features = False
    # Train from scratch as well, as long, in `scratch` of the run directory, and report the difference
    # (plumbline train).
    transfer.check = False

    # ---- Objective ------------------------------------------------------------------------------------------------
    config.objective = objective = ml_collections.ConfigDict()
    # What is minimised: "auto" (the task's own), "cross_entropy" or "squared_error"; of a text for language modelling
    # "next_token" (its own) or "masked_token" (BERT's).
    objective.name = "auto"
    # Share of the label spread evenly over all classes.
    objective.label_smoothing = 0.0

    # ---- Optimizer ------------------------------------------------------------------------------------------------
    config.optimizer = optimizer = ml_collections.ConfigDict()
    # "sgd", "adam", "adamw", "lion", "lamb", "adafactor" or "muon".
    optimizer.name = "adamw"
    # Peak learning rate; the schedule multiplies it.
    optimizer.learning_rate = 1e-3
    # Decoupled from the gradient for adamw, lion, lamb, adafactor and muon; added to the gradient for sgd and adam.
    optimizer.weight_decay = 0.0
    # Momentum of sgd and muon.
    optimizer.momentum = 0.9
    # Nesterov's form of that momentum (sgd and muon).
    optimizer.nesterov = True
    # Decay of the first and second moments (adam, adamw, lion, lamb; muon's other parameters).
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    # Largest global norm of the gradient; larger ones are scaled down to it; 0 means no limit.
    optimizer.clip_norm = 0.0
    # Factors on the weight decay of each parameter: (regular expression over its path, factor), the first that is found
    # in the path wins. A parameter that none matches, or a pattern that is found in no parameter, is an error.
    optimizer.weight_decay_rules = ((r"(^|/)(bias|scale)$", 0.0), (r".", 1.0))
    # Factors on the learning rate of each parameter, likewise.
    optimizer.learning_rate_rules = ((r".", 1.0),)

    # ---- Pruning: the smallest weights become zero, and stay so -----------------------------------------------------
    config.prune = prune = ml_collections.ConfigDict()
    # Share of the weights that are zero in the end, exactly; 0: nothing is pruned.
    prune.sparsity = 0.0
    # When the share begins to rise from 0, and when it is reached; the rest of the training is fine-tuning. In between,
    # it rises fast at first and ever more slowly (Zhu & Gupta 2017, section 3), once in each interval `every`.
    prune.begin = "20 percent"
    prune.end = "70 percent"
    prune.every = "1 percent"
    # Whose smallest weights: of all that are pruned ("global"), or of each parameter, in each of stacked blocks, which
    # all come to the same share ("layer").
    prune.scope = "global"
    # Which weights: regular expressions over the paths of trained parameters, as in `transfer.freeze`; biases, norms
    # and embeddings of tokens and positions are no kernels.
    prune.parameters = (r"(^|/)kernel$",)

    # ---- Learning-rate schedule -----------------------------------------------------------------------------------
    config.schedule = schedule = ml_collections.ConfigDict()
    # After the warmup: "constant", "cosine", "linear", "step" or "rsqrt".
    schedule.name = "cosine"
    # Linear rise from 0 to the peak.
    schedule.warmup = "5 percent"
    # Where "cosine" and "linear" end, as a share of the peak.
    schedule.end = 0.0
    # "step": when the rate is multiplied by `step_factor`.
    schedule.step_at = ("50 percent", "75 percent")
    schedule.step_factor = 0.1
    # "rsqrt": length over which the rate begins to fall as 1 / sqrt(step) (Zhai et al. 2022); "" means the warmup.
    schedule.rsqrt_timescale = ""

    # ---- Training -------------------------------------------------------------------------------------------------
    config.train = train = ml_collections.ConfigDict()
    # How long to train.
    train.duration = "40 epochs"
    # Examples in one step, over all devices.
    train.batch_size = 64
    # Parts a batch is cut into, whose gradients are added up before the one update, to save memory.
    train.accumulation_steps = 1
    # Decay of the moving average of the parameters that evaluation uses; 0 means none.
    train.ema_decay = 0.0
    # How often training metrics are written and the validation split is evaluated.
    train.log_every = "1 epochs"
    train.evaluate_every = "1 epochs"
    # How often a checkpoint is saved, in wall time or in steps; besides, one is saved at the end. Populations, whose
    # members are at steps of their own, save every minute where this is in steps.
    train.checkpoint_every = "1 minutes"
    # Checkpoints that are kept, newest first; the best on the validation split is kept besides.
    train.keep_checkpoints = 2
    # Metric that chooses the best checkpoint; "auto" means accuracy, or mse for regression, or loss for language
    # modelling. Without a validation split the last checkpoint counts as the best.
    train.best_metric = "auto"
    # Stop when the best metric has not improved for this long; "" never.
    train.patience = ""
    # Updates in a row that may be skipped for a loss or gradient that is not finite before the run stops as diverged.
    train.max_skipped = 20
    # Then: "stop" (exit 3, the last good checkpoint is kept) or "rollback" (once: back to that checkpoint, and on with
    # the batches that follow those of the failure; should it diverge again, stop). Members of a population stop.
    train.on_divergence = "stop"
    # Trace for TensorBoard and Perfetto of so many steps, from this step on; 0 steps: none.
    train.profile = profile = ml_collections.ConfigDict()
    profile.start = 10
    profile.steps = 0
    # Metrics for TensorBoard as well.
    train.tensorboard = True

    # ---- Devices --------------------------------------------------------------------------------------------------
    # A run may go on with another mesh, on another number of devices: the batches stay the same.
    config.mesh = mesh = ml_collections.ConfigDict()
    # Devices along each axis; they multiply to all there are, and one may be -1: what the others leave over. Examples
    # are split over `data` and `fsdp`, parameters and optimizer state over `fsdp` and `tensor`.
    mesh.data = -1
    mesh.fsdp = 1
    mesh.tensor = 1

    config.parallel = parallel = ml_collections.ConfigDict()
    # "jit": one program over the whole mesh. "pmap": the same step on each device's part of a batch; data axis only.
    parallel.mode = "jit"
    # How parameters are split: (regular expression over the path, an entry for each dimension: an axis, a tuple of axes
    # or None), the first that is found wins. What none matches goes by the model's rules for `tensor`, and over `fsdp`
    # along the largest dimension that it divides.
    parallel.rules = ()
    # Parameters of fewer numbers (in each of stacked layers) are left whole by the rule for `fsdp`.
    parallel.fsdp_min_size = 4096

    # ---- Execution ------------------------------------------------------------------------------------------------
    config.execution = execution = ml_collections.ConfigDict()
    # How steps are dispatched: "loop" (one at a time), "scan" (several in one program), or "auto": whichever is faster
    # on the first steps of the run. The choice is written to the run directory and repeated on resume.
    execution.mode = "auto"
    # Most steps in one dispatch of "scan".
    execution.scan_steps = 32
    # Keep compiled programs between runs, in this folder; "" means the one of `data.cache_dir`, "none" keeps none.
    execution.compilation_cache = ""

    config.population = population = ml_collections.ConfigDict()
    # How trainings that share a program (of a sweep, folds, seeds) are run on each device: "vmap" (stacked), "map" (one
    # after the other inside the program), "loop" (step by step from Python), or "auto": the fastest on this machine.
    population.mode = "auto"
    # Trainings at once, over all devices; 0: 8 on each CPU device (32 of those that are all there, as folds are), 64 on
    # each GPU or TPU, or as many as memory allows.
    population.lanes = 0

    # ---- Evaluation -----------------------------------------------------------------------------------------------
    config.evaluation = evaluation = ml_collections.ConfigDict()
    # Examples in one batch of evaluation or prediction, over all devices; 0 means that of training.
    evaluation.batch_size = 0
    # Equal-width bins of the calibration error (Guo et al. 2017).
    evaluation.calibration_bins = 15

    return config.lock()
