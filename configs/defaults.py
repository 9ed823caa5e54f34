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

    # Seed of all randomness of a run: initial parameters, order of examples, dropout, augmentation, random splits.
    config.seed = traced(0, UINT32, instead="give --seeds instead")

    # ---- Data -----------------------------------------------------------------------------------------------------
    config.data = data = ml_collections.ConfigDict()
    # Where examples come from: "digits", "tfds:NAME", "folder:PATH" (of images or texts), "prepared:DIR" (what
    # plumbline prepare wrote), "csv:PATH", "parquet:PATH", "sklearn:NAME", or "text:PATH" for language modelling.
    data.source = shared("digits", defines_test=True)
    # Task: "classification", "regression", or "auto", the source's own task. For a table, "auto" is regression if the
    # target has fractions or more than 20 distinct numbers.
    data.task = shared("auto", defines_test=True)
    # Test examples: "auto" (the source's own test split, or 20 percent of its rows if it has none), "N percent" of the
    # rows, "split:NAME" (of a TFDS set or a folder), or the path of another file or folder of the same kind.
    data.test = shared("auto", defines_test=True)
    # Validation examples, used to choose the best checkpoint and to stop early: "none", "N percent" of the training
    # rows (whole groups if the source has groups, else stratified by class), "split:NAME", or "auto" (the source's own
    # split "validation", "val", "valid" or "dev"; "10 percent" if it has none).
    data.validation = shared("10 percent")
    # Names of the classes to keep, in the order of the source. Rows of other classes are left out of all splits. ()
    # keeps all.
    data.classes = shared((), defines_test=True)
    # Training rows to keep per class, drawn by the seed; a smaller number keeps a subset of a larger one. 0 keeps all.
    # The other splits do not change.
    data.examples_per_class = shared(0, NOT_NEGATIVE)
    # Directory of an audit (plumbline audit). The next two fields name its findings, as "findings:NAME" or
    # "findings:NAME,NAME". A run stores the lists of rows and does not need the audit again.
    data.findings = shared("", may_change=True)
    # Training and validation rows to leave out; "" leaves out none.
    data.drop = shared("")
    # Training rows to weight down, by the weights of the finding; "" weights down none.
    data.weights = shared("")
    # Folder for decoded caches and prepared sets; "" means $PLUMBLINE_CACHE, or ~/.cache/plumbline if that is not set.
    data.cache_dir = shared("", may_change=True)
    # Number of training examples and of classes; 0: as in the source. Planning uses them without opening the source.
    data.num_examples = shared(0, NOT_NEGATIVE, may_change=True)
    data.num_classes = shared(0, NOT_NEGATIVE, may_change=True)
    # Largest decoded set in GiB to keep in a memory-mapped cache; worker processes stream a larger one.
    data.cache_limit_gib = shared(8.0, NOT_NEGATIVE)
    # Worker processes that decode a streamed set; -1 means one per core.
    data.workers = shared(-1, may_change=True)
    # Folder of TFDS sets for "tfds:NAME"; "" means TFDS's own default.
    data.tfds_dir = shared("", may_change=True)
    # Weight of each class in the training loss: "none", or "balanced" (inverse to its frequency in the training rows).
    data.class_weights = constant("none")

    # Images. Height and width in pixels to which images are resized; 0 means the size of the source's images.
    data.image_size = shared(0, pretrained=Pretrained.IF_UNSET)
    # Colour channels to which images are converted: 1 (grey) or 3 (RGB; alpha is blended with black); 0 means those of
    # the source's images.
    data.channels = shared(0, pretrained=Pretrained.IF_UNSET)
    # How an image is resized to `image_size`: "crop" (scale the short side, then crop the centre) or "stretch".
    data.resize = shared("crop")
    # Number of corrupt images to skip; one more is an error.
    data.max_corrupt = shared(0, NOT_NEGATIVE)
    # How inputs are scaled: "fitted" (zero mean, unit deviation over the training rows, per channel or column),
    # "imagenet" (the usual RGB constants), "signed" (images in -1 to 1) or "none" (images in 0 to 1, table columns as
    # they are).
    data.normalize = constant("fitted", pretrained=Pretrained.REPLACES)

    # Tables. Sign between the fields of a CSV file: "auto" (comma, semicolon, tab or pipe), or one sign.
    data.delimiter = shared("auto")
    # Sign before the decimals of numbers in a CSV file: "." (a comma then separates thousands), "," or "auto" (the
    # point; a comma separates thousands where no other reading is possible, else it is an error).
    data.decimal = shared("auto", one_of("auto", ".", ","))
    # Encoding of a CSV file: "auto" (UTF-8 or UTF-16), or a name that Python knows, such as "cp1252".
    data.encoding = shared("auto")
    # Whether the first line of a CSV file has the names of the columns; otherwise they are c0, c1, ...
    data.header = shared(True)
    # Rows without a label: "error", or "drop" to leave them out.
    data.unlabelled = shared("error", one_of("error", "drop"), defines_test=True)
    # Column to predict.
    data.target = shared("", defines_test=True)
    # Column with the group of a row (person, hospital, writer), for splits and for metrics by group; "" none.
    data.group = shared("")
    # Column with the weight of each example, at least 0; "" none.
    data.weight = shared("")
    # Columns to leave out; '' is one without a name. Columns without a name or values, and those in which pandas
    # stores the index of a table, are left out anyway.
    data.ignore = shared(())
    # Columns of numbers to read as categories.
    data.categorical = shared(())
    # Texts that stand for a missing value.
    data.missing_values = shared(("", "?", "NA", "N/A", "null", "NULL", "None"))

    # Text. Column of a table with the text of an example, which is then the only input; "" none.
    data.text = shared("")
    # Tokenizer: a tokenizer.json, a directory with one, or "characters" (a token for each character of the training
    # text). With model.name="pretrained", "" means the tokenizer of `transfer.source`.
    data.tokenizer = shared("", pretrained=Pretrained.IF_UNSET)
    # Tokens per example: longer texts are truncated at the end, shorter ones are padded.
    data.text_length = shared(128, AT_LEAST_ONE)
    # Language modelling: tokens from the start of one training window to the start of the next; 0: `text_length`.
    data.text_stride = shared(0, NOT_NEGATIVE)

    # ---- Augmentation, on the device, of training batches only. 0 or False turns each one off. ---------------------
    config.augment = augment = ml_collections.ConfigDict()
    # Pixels of zero padding before a random crop to the original size.
    augment.crop_padding = constant(0, NOT_NEGATIVE, random=True, images=True)
    # Flip half of the images horizontally.
    augment.flip = constant(False, random=True, images=True)
    # Largest random translation in each direction, in pixels; edge pixels are repeated.
    augment.shift = constant(0, NOT_NEGATIVE, random=True, images=True)
    # Largest relative change of brightness, contrast and, for RGB, saturation; 0.4 is usual.
    augment.color = hyperparameter(0.0, SHARE, random=True, images=True)
    # Alpha of the Beta distribution of mixup's mixing ratio (Zhang et al. 2018); 0.2 is usual.
    augment.mixup = hyperparameter(0.0, NOT_NEGATIVE, random=True)
    # Alpha of the Beta distribution of CutMix's mixing ratio (Yun et al. 2019); 1.0 is usual.
    augment.cutmix = hyperparameter(0.0, NOT_NEGATIVE, random=True, images=True)

    # ---- Model ----------------------------------------------------------------------------------------------------
    config.model = model = ml_collections.ConfigDict()
    # Model: a name registered in `models`, with fields of its own below, or "pretrained", the model of
    # `transfer.source`.
    model.name = constant("resnet")
    # Data type of the computation: "float32" or "bfloat16"; parameters, optimizer state and logits stay float32.
    model.dtype = constant("float32")
    # Dropout rate (MLP: after each hidden layer; ResNet, ConvNeXt: before the head; ViT, BERT, GPT: after each
    # sublayer, in BERT and GPT also after the embedding).
    model.dropout = hyperparameter(0.0, SHARE, random=True)
    # Rate of stochastic depth in the last block; it grows linearly from the first block (Huang et al. 2016).
    model.stochastic_depth = hyperparameter(0.0, SHARE, random=True)
    # Activations to recompute in the backward pass, block by block, to save memory (all models but linear and MLP):
    # "none", "full" (all of a block), "dots" (all but matrix products) or "dots_without_batch" (also the products of
    # attention).
    model.remat = constant("none", may_change=True)

    model.linear = ml_collections.ConfigDict()

    model.mlp = mlp = ml_collections.ConfigDict()
    # Units in each hidden layer.
    mlp.hidden_sizes = constant((128, 128))
    # Size of the embedding of a categorical column; 0 means min(50, (categories + 1) // 2).
    mlp.embedding_size = constant(0)
    # Activation: "relu", "gelu" or "silu".
    mlp.activation = constant("relu")

    model.resnet = resnet = ml_collections.ConfigDict()
    # Number of layers: 10, 18 or 34 (basic blocks), 50 or 101 (bottleneck blocks, v1.5).
    resnet.depth = constant(18)
    # Channels in the first stage; 64 in the paper.
    resnet.width = constant(64)
    # Normalisation: "batch" or "group" (32 groups, or as many as divide the width).
    resnet.norm = constant("batch")
    # Stem: "large" (7x7, stride 2, max pooling), "small" (3x3, stride 1), or "auto" (small below 64 pixels).
    resnet.stem = constant("auto")

    model.vit = vit = ml_collections.ConfigDict()
    # "Ti", "S", "B", "L" or "H"; "custom" uses the four sizes below.
    vit.variant = constant("custom")
    # Side of a patch in pixels.
    vit.patch_size = constant(16)
    # Size of a token, number of blocks, attention heads, units in the hidden layer of each block's MLP ("custom").
    vit.width = constant(64)
    vit.depth = constant(4)
    vit.heads = constant(4)
    vit.mlp_size = constant(256)
    # Input of the head: "token" (a class token), "mean" (of all patches, without a class token), or two of them
    # concatenated: "token_and_mean" (DINOv2) or "token_and_distillation" (DeiT).
    vit.pooling = constant("token")
    # Position embeddings: "learned" or "sincos2d" (fixed).
    vit.positions = constant("learned")
    # Whether there is a distillation token after the class token (DeiT).
    vit.distillation_token = constant(False)
    # Initial value of the learned scale of each channel of each residual branch; 0: no scale.
    vit.layer_scale = constant(0.0)
    # Added to the variance in the norms.
    vit.norm_epsilon = constant(1e-6)

    model.convnext = convnext = ml_collections.ConfigDict()
    # "T", "S", "B" or "L"; "custom" uses the depths and widths below.
    convnext.variant = constant("custom")
    # Blocks and channels in each of the four stages ("custom").
    convnext.depths = constant((2, 2, 2, 2))
    convnext.widths = constant((16, 32, 64, 128))
    # Side in pixels of a patch of the first convolution; 4 in the paper.
    convnext.patch_size = constant(4)
    # Initial value of the learned scale of each channel of each residual branch; 0: no scale.
    convnext.layer_scale = constant(1e-6)
    # Added to the variance in the norm before the head; it is 1e-6 in the other norms.
    convnext.norm_epsilon = constant(1e-6)

    model.bert = bert = ml_collections.ConfigDict()
    # Rows of the token embedding; 0: the number of tokens of the tokenizer.
    bert.vocabulary = constant(0)
    # Rows of the position embedding, which is the longest text in tokens; 0: data.text_length.
    bert.max_length = constant(0)
    # Size of a token, number of blocks, attention heads, units in the hidden layer of each block's MLP.
    bert.width = constant(128)
    bert.depth = constant(4)
    bert.heads = constant(4)
    bert.mlp_size = constant(512)
    # Rows of the segment embedding (2 in BERT), of which all texts use the first; 0: no segment embedding.
    bert.segments = constant(0)
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    bert.activation = constant("gelu")
    # Added to the variance in the norms.
    bert.norm_epsilon = constant(1e-12)
    # Input of the head: "mean" (of all tokens but padding), "token" (the first), or "tokens" (each one, for masked
    # language modelling); "" means "tokens" for language modelling, else "mean".
    bert.pooling = constant("", pretrained=Pretrained.IF_UNSET)
    # Activation of the dense layer on the first token with pooling="token": "tanh" (BERT), "relu" (DistilBERT), or
    # "none" for no such layer.
    bert.pooler = constant("tanh")

    model.gpt = gpt = ml_collections.ConfigDict()
    # Rows of the token embedding; 0: the number of tokens of the tokenizer.
    gpt.vocabulary = constant(0)
    # Rows of the position embedding, which is the longest text in tokens; 0: data.text_length.
    gpt.max_length = constant(0)
    # Size of a token, number of blocks, attention heads, units in the hidden layer of each block's MLP.
    gpt.width = constant(128)
    gpt.depth = constant(4)
    gpt.heads = constant(4)
    gpt.mlp_size = constant(512)
    # Activation of the MLPs: "gelu" (exact), "gelu_tanh" or "relu".
    gpt.activation = constant("gelu_tanh")
    # Added to the variance in the norms.
    gpt.norm_epsilon = constant(1e-5)
    # Input of the head: "last" (the last token before padding), "mean" (of all tokens but padding), or "tokens" (each
    # one, for language modelling); "" means "tokens" for language modelling, else "last".
    gpt.pooling = constant("", pretrained=Pretrained.IF_UNSET)

    # ---- Transfer: what a training begins with, and which of it is trained how ------------------------------------
    config.transfer = transfer = ml_collections.ConfigDict()
    # Source of the initial parameters: a run directory, an Orbax checkpoint, a Hugging Face directory, a .safetensors
    # or .npz file, or "hf:org/name" (docs/transfer.md lists the formats); "": random initialisation. With
    # model.name="pretrained" it also gives the model, its normalisation and, where they are 0, image size and channels.
    transfer.source = constant("")
    # Parameters that may be missing in the source and are then initialised at random: regular expressions, each of
    # which must match the path of a parameter. The head may always be missing in the source or have another shape
    # there.
    transfer.allow = constant(())
    # Parameters to freeze: regular expressions over their paths ("blocks/3/mlp/out/kernel" in stacked blocks). A batch
    # norm whose parameters are all frozen keeps its statistics. ("^(?!head/)",) is a linear probe.
    transfer.freeze = constant(())
    # Layer-wise learning-rate decay, as in timm: the factor from each layer to the one before it, with 1 for the head;
    # 0: no decay.
    transfer.layer_decay = hyperparameter(0.0, SHARE_OR_ONE)
    # Peak learning rate of the head; 0: that of the other parameters.
    transfer.head_learning_rate = hyperparameter(0.0, NOT_NEGATIVE)
    # Schedule of the head's learning rate after the warmup, a name as in `schedule.name`; "": that of the other
    # parameters.
    transfer.head_schedule = constant("")
    # Gradual unfreezing: pairs (regular expression over paths as above, duration). Parameters that match stay frozen
    # for that long; the first pair that matches a path counts.
    transfer.unfreeze = traced((), program=_patterns)
    # Low-rank adapters (Hu et al. 2021) for linear layers, whose kernels are frozen: regular expressions over the paths
    # of the layers ("blocks/attention/query", without numbers of stacked blocks), and the rank. The product of the two
    # adapter matrices is scaled by alpha / rank. () adds no adapters.
    transfer.lora = lora = ml_collections.ConfigDict()
    lora.patterns = constant(())
    lora.rank = constant(8, AT_LEAST_ONE)
    lora.alpha = constant(16.0, POSITIVE)
    # Compute the inputs of the head once for all splits, and train and evaluate the head on them. Only the head may be
    # trained, and no augmentation or dropout may be used.
    transfer.cache_features = operational(False, runs_only="leave it out")
    # Also train from scratch for as long, in `scratch` of the run directory, and report the difference (plumbline
    # train).
    transfer.check = operational(False, runs_only="add a variant from scratch, {'transfer.source': ''}")
    # Seeds of that comparison, from `seed` on: trainings with the source, and from scratch. 1 repeats nothing, and then
    # only the two models can be compared, not the two ways to train.
    transfer.check_seeds = operational(5, AT_LEAST_ONE)

    # ---- Objective ------------------------------------------------------------------------------------------------
    config.objective = objective = ml_collections.ConfigDict()
    # Loss: "auto" (the default of the task), "cross_entropy" or "squared_error"; for language modelling "next_token"
    # (the default) or "masked_token" (as in BERT).
    objective.name = constant("auto")
    # Label smoothing: the share of the label that is distributed evenly over all classes.
    objective.label_smoothing = hyperparameter(0.0, SHARE)

    # ---- Optimizer ------------------------------------------------------------------------------------------------
    config.optimizer = optimizer = ml_collections.ConfigDict()
    # "sgd", "adam", "adamw", "lion", "lamb", "adafactor" or "muon".
    optimizer.name = constant("adamw")
    # Peak learning rate; the schedule multiplies it.
    optimizer.learning_rate = hyperparameter(1e-3, POSITIVE)
    # Weight decay, decoupled for adamw, lion, lamb, adafactor and muon; added to the gradient for sgd and adam.
    optimizer.weight_decay = hyperparameter(0.0, NOT_NEGATIVE)
    # Momentum of sgd and muon.
    optimizer.momentum = hyperparameter(0.9, SHARE)
    # Nesterov momentum (sgd and muon).
    optimizer.nesterov = constant(True)
    # Decay rates of the first and second moments (adam, adamw, lion, lamb; the parameters that muon leaves to Adam).
    optimizer.b1 = hyperparameter(0.9, SHARE)
    optimizer.b2 = hyperparameter(0.999, SHARE)
    # Largest global norm of the gradient; larger gradients are scaled down to it. 0 means no limit.
    optimizer.clip_norm = hyperparameter(0.0, NOT_NEGATIVE)
    # Factors on the weight decay: pairs (regular expression over the path of a parameter, factor). The first that
    # matches counts. A parameter without a match is an error, and so is an expression that matches no parameter.
    optimizer.weight_decay_rules = constant(((r"(^|/)(bias|scale)$", 0.0), (r".", 1.0)))
    # Factors on the learning rate, by the same rules.
    optimizer.learning_rate_rules = constant(((r".", 1.0),))

    # ---- Pruning: the smallest weights become zero and stay zero ---------------------------------------------------
    config.prune = prune = ml_collections.ConfigDict()
    # Share of the weights that are zero at the end, exactly; 0: no pruning.
    prune.sparsity = traced(0.0, SHARE, program=bool)
    # When the share starts to rise from 0, and when it reaches `sparsity`; the rest of the training is fine-tuning. It
    # rises once in each interval `every`, fast at first and then more and more slowly (Zhu & Gupta 2017, section 3).
    prune.begin = traced("20 percent")
    prune.end = traced("70 percent")
    prune.every = traced("1 percent")
    # Among which weights the smallest are chosen: all together ("global"), or those of each parameter and, in stacked
    # blocks, of each block, so that all reach the same share ("layer").
    prune.scope = constant("global", one_of("global", "layer"))
    # Parameters to prune: regular expressions over the paths of trained parameters, as in `transfer.freeze`. Biases,
    # norms, and token and position embeddings are not kernels.
    prune.parameters = constant((r"(^|/)kernel$",))

    # ---- Learning-rate schedule -----------------------------------------------------------------------------------
    config.schedule = schedule = ml_collections.ConfigDict()
    # Schedule after the warmup: "constant", "cosine", "linear", "step" or "rsqrt".
    schedule.name = constant("cosine")
    # Length of the linear warmup from 0 to the peak.
    schedule.warmup = traced("5 percent")
    # Final learning rate of "cosine" and "linear", as a share of the peak.
    schedule.end = constant(0.0)
    # "step": when the rate is multiplied by `step_factor`.
    schedule.step_at = traced(("50 percent", "75 percent"), program=len)
    schedule.step_factor = constant(0.1)
    # "rsqrt": time scale of the decay as 1 / sqrt(step) (Zhai et al. 2022); "" means the length of the warmup.
    schedule.rsqrt_timescale = traced("")

    # ---- Training -------------------------------------------------------------------------------------------------
    config.train = train = ml_collections.ConfigDict()
    # How long to train.
    train.duration = traced("40 epochs")
    # Examples per step, over all devices.
    train.batch_size = constant(64, AT_LEAST_ONE)
    # Gradient accumulation: parts of a batch whose gradients are added up before the update, to save memory.
    train.accumulation_steps = constant(1, AT_LEAST_ONE)
    # Decay of the exponential moving average of the parameters, which evaluation uses; 0 means no average.
    train.ema_decay = hyperparameter(0.0, SHARE, adds_state=True)
    # With a moving average and batch norms: whether the statistics of the norms are computed for the averaged
    # parameters at the end of the training, over one epoch without augmentation. If not, they are those of the steps.
    train.recompute_statistics = operational(False, runs_only="leave it out")
    # How often training metrics are written, and how often the validation split is evaluated.
    train.log_every = traced("1 epochs")
    train.evaluate_every = traced("1 epochs")
    # How often a checkpoint is saved, in wall time or in steps; another one is saved at the end. Members of a
    # population are at different steps, so a population saves every minute where this is in steps.
    train.checkpoint_every = traced("1 minutes", may_change=True)
    # Number of newest checkpoints to keep; the best parameters on the validation split are kept in each of them.
    train.keep_checkpoints = constant(2, AT_LEAST_ONE, may_change=True)
    # Monitored metric, which chooses the best checkpoint; "auto" means accuracy, mse for regression, or loss for
    # language modelling. Without a validation split the last checkpoint is the best.
    train.best_metric = traced("auto")
    # Early stopping: stop if the monitored metric has not improved for this long; "" never.
    train.patience = traced("")
    # Number of consecutive updates, skipped because loss or gradient is not finite, after which a run counts as
    # diverged.
    train.max_skipped = constant(20, AT_LEAST_ONE, may_change=True)
    # After divergence: "stop" (exit code 3; the last good checkpoint is kept) or "rollback" (restore that checkpoint
    # and continue with the batches after the failure; stop if the run or member diverges again).
    train.on_divergence = constant("stop", one_of("stop", "rollback"), may_change=True)
    # Profile for TensorBoard and Perfetto: first step, and number of steps (0: no profile).
    train.profile = profile = ml_collections.ConfigDict()
    profile.start = operational(10, NOT_NEGATIVE)
    profile.steps = operational(0, NOT_NEGATIVE)
    # Whether to write metrics for TensorBoard as well.
    train.tensorboard = operational(True)

    # ---- Devices --------------------------------------------------------------------------------------------------
    # A run can be resumed with another mesh and another number of devices; the batches stay the same.
    config.mesh = mesh = ml_collections.ConfigDict()
    # Devices along each axis. Their product is the number of devices; one may be -1, which is then inferred. Examples
    # are split over `data` and `fsdp`, parameters and optimizer state over `fsdp` and `tensor`.
    mesh.data = shared(-1, may_change=True)
    mesh.fsdp = shared(1, may_change=True)
    mesh.tensor = shared(1, may_change=True)

    config.parallel = parallel = ml_collections.ConfigDict()
    # "jit": one program over the whole mesh. "pmap": the same step on each device's part of a batch, with the data axis
    # only.
    parallel.mode = shared("jit", may_change=True)
    # Sharding rules: pairs (regular expression over the path of a parameter, an entry for each dimension: an axis, a
    # tuple of axes or None). The first that matches counts. Other parameters follow the model's rules for `tensor`, and
    # are split over `fsdp` along the largest dimension that it divides.
    parallel.rules = shared((), may_change=True)
    # Parameters with fewer elements (per layer, where layers are stacked) are not split over `fsdp` by default.
    parallel.fsdp_min_size = shared(4096, AT_LEAST_ONE, may_change=True)

    # ---- Execution ------------------------------------------------------------------------------------------------
    config.execution = execution = ml_collections.ConfigDict()
    # How steps are dispatched: "loop" (one at a time), "scan" (several in one program), or "auto", the faster of the
    # two on the first steps of the run. The choice is stored in the run directory and used again on resume.
    execution.mode = shared("auto")
    # Largest number of steps in one dispatch of "scan".
    execution.scan_steps = shared(32, AT_LEAST_ONE)
    # Folder of the cache of compiled programs; "" means a folder in `data.cache_dir`, "none" no cache.
    execution.compilation_cache = shared("", may_change=True)

    config.population = population = ml_collections.ConfigDict()
    # How trainings that share a program (trials of a sweep, folds, seeds) run on each device: "vmap" (stacked), "map"
    # (one after the other in the program), "loop" (step by step from Python), or "auto", the fastest on this machine.
    population.mode = shared("auto", may_change=True)
    # Trainings at a time, over all devices; 0: 8 on each CPU device (32 if all trainings are known from the start, as
    # for folds), 64 on each GPU or TPU, or as many as fit into memory.
    population.lanes = shared(0, NOT_NEGATIVE, may_change=True)

    # ---- Evaluation -----------------------------------------------------------------------------------------------
    config.evaluation = evaluation = ml_collections.ConfigDict()
    # Examples per batch of evaluation or prediction, over all devices; 0 means the batch size of training.
    evaluation.batch_size = constant(0, NOT_NEGATIVE, may_change=True)
    # Number of equal-width bins of the calibration error (Guo et al. 2017).
    evaluation.calibration_bins = constant(15, AT_LEAST_ONE)

    return config


def _patterns(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return [pattern for pattern, _ in pairs]


FIELDS = flatten(_describe())
"""The description of each field by its path."""
