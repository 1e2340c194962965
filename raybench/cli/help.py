"""The help pages: one of the program and one of each verb."""

from __future__ import annotations

PROGRAM = """\
raybench {version}: how fast a machine or a cluster runs deep-learning inference, and how that grows.

usage: raybench [verb] experiment=NAME|model=FILE.onnx [key=value ...]

verbs (raybench VERB --help explains one)
  run       measure an experiment, or a model alone (this is the default verb)
  plan      show its points and the time they take; measures nothing
  build     put its graphs and plans into this machine's cache; measures nothing
  list      experiments, models, engines and presets
  doctor    what this machine, or the cluster at cluster.address, can measure and what is missing
  show DIR  the table of a results folder; format=csv, json or markdown for others to read
  compare A B
            what became faster or slower, point by point; fails after a regression
  trend DIR...
            the steps of every point over many runs, and what changed at them
  accept DIR...
            accepts or rejects every device: against the others, and a baseline=FILE
  baseline DIR...
            writes what a sound device reaches, for accept
  report DIR...
            one offline page, the same figures as files, and Markdown
  clean     what ended runs left on this machine; removes it when asked to

examples
  raybench model=mine.onnx batch_size=8
  raybench experiment=scaling
  raybench experiment=precision engine=onnxruntime trials=3
  raybench plan experiment=paper device=gpu cluster.gpus=4
  raybench experiment=smoke model=mine.onnx model.shapes.sequence=128
  raybench model=timm:resnet18           (or torchvision:NAME, hf:NAME: docs/models.md)
  raybench experiment=scaling cluster.address=10.0.0.1:6379
  raybench compare old new by=engine_version format=markdown
  raybench trend nightly/* since=2026-10-01
  raybench accept results tolerance=0.03
  raybench report results other/results out=report by=device

keys
  model, precision, batch_size, workers, engine, inflight, transfers, load,
  instances, power_limit_w, prompt, context, new_tokens, pipeline, cores
            the axes: one value or a list, e.g. batch_size=[1,8,32] or batch_size=max
  device=auto|cpu|gpu    preset=quick|standard|publish    trials=N    rerun=failed|unstable|all
  results.dir=DIR        device.memory_limit=24GiB        engine.OPTION=...
  cluster.isolation=cluster|node|gpu    cluster.retries=N
  of report: out=DIR  title=TEXT  by=FACTOR  base=VALUE  scaling.mode=weak|strong
             usd_per_device_hour=PRICE
"""

_SETTINGS = """\
axes: one value or a list such as batch_size=[1,8,32]
  model=NAME|FILE.onnx|timm:NAME|torchvision:NAME|hf:NAME
                         precision=fp32|tf32|fp16|bf16|int8|int8_fp16|int8_weights|fp8|as_is
  batch_size=N|max       workers=N|auto|all    engine=NAME|auto
  inflight=N             transfers=on|off      accelerator=TYPE|auto|any
  load=closed|poisson(RATE)|constant(RATE)|SHARE   open loop in items/s, or share of capacity
  instances=N            engines on each device, in processes of their own
  power_limit_w=WATTS|unchanged   power limit that each GPU is set to, and restored afterwards
  prompt=N|auto          tokens that a decoder reads at once: model=decoder_125m_prefill
  context=N|auto         tokens in the cache of a decoder's step: model=decoder_125m_step
  new_tokens=N|auto      tokens that it generates before its positions begin again
  pipeline=none|jpeg     decode and scale images into the batches while they are streamed
  cores=N                cores of the node that do so for each device

settings
  experiment=NAME|FILE.yaml      the question; see raybench list experiments; left out, one point of
                                 the model is measured
  preset=quick|standard|publish  how long and how precisely; see raybench list presets
  trials=N                       repeats of each point in fresh workers
  rerun=failed|unstable|all      measure stored rows again
  device=auto|cpu|gpu            kind of device
  device.memory_limit=24GiB      treat devices as no larger
  engine.OPTION=VALUE            option of an engine; see raybench list engines
  model.shapes.SYMBOL=N          size of a dynamic dimension
  model.inputs=FILE.npz|DIR      real inputs: arrays by name of input, or a folder of .npy or images
  measure.KEY=VALUE              change what the preset sets
  seed=N  order=interleaved|grid scaling.baseline=one|solo|pairs
  slo_ms=15 percentile=99        latency bound of open loop; experiment=slo finds the highest rate
  demand=RATE                    items/s for which experiment=slo says how many devices it takes
  rack_power_w=WATTS             of a rack, of which experiment=power says what it serves
  results.dir=DIR                where rows go (results); s3://bucket/prefix works too
  results.samples=all            also store the latency of every batch
  results.layers=true            also store the time of every layer
  cluster.address=HOST:PORT      join a Ray cluster (RAY_ADDRESS counts as well)
  cluster.gpus=N  cluster.cpus=N devices to offer when Ray is started here
  cluster.isolation=cluster|node|gpu  which points may run at the same time
  cluster.select={LABEL: VALUE}  cluster.placement=pack|spread  cluster.retries=N
  cluster.uniform=warn|require   what to do when nodes differ
"""

VERBS = {
    "run": f"""\
usage: raybench [run] experiment=NAME|model=FILE.onnx [key=value ...]

Measures every point of an experiment that has no final row in the results folder yet, and prints
a table. Without an experiment the model is measured in fp32 on one device with the best engine
here, unless other words say more. Ctrl-C ends the run cleanly; the same command then measures what
is missing. What another run on the same folder measures at this time is left to that one.

{_SETTINGS}
exit code
  0  every point has a final row and none failed    1  a point failed; the table says why,
     or another run has not measured its points yet
  2  the command cannot be carried out, or rows cannot be written
  130  interrupted; rows are kept

examples
  raybench model=mine.onnx "precision=[fp32,int8]"
  raybench experiment=scaling
  raybench run experiment=precision engine=onnxruntime trials=3 results.dir=monday
""",
    "plan": f"""\
usage: raybench plan experiment=NAME|model=FILE.onnx [key=value ...]

Shows the points of an experiment in the order in which they would run, and the time they take at
least and at most. Starts no Ray and measures nothing; a model of another package is exported into
the cache first.

{_SETTINGS}
example
  raybench plan experiment=paper device=gpu cluster.gpus=4
""",
    "build": f"""\
usage: raybench build experiment=NAME|model=FILE.onnx [key=value ...]

Puts the graphs, fp32 outputs and plans that the points of an experiment need into this machine's
cache (RAYBENCH_CACHE), one after another and without Ray. Measures nothing. Runs that use this
cache, or a copy of it, find them. Plans of engine=tensorrt_rtx need no GPU: build them on any node
with device=gpu. Those of engine=tensorrt are built on the GPU that they are for. The cluster of
cluster.address is not joined.

{_SETTINGS}
exit code
  0  all is built, or cannot be for a named reason    1  something failed, or nothing is built
  2  the command cannot be carried out    130  interrupted; what is built is kept

examples
  raybench build experiment=precision device=gpu engine=tensorrt_rtx
  raybench build model=mine.onnx device=gpu engine=tensorrt_rtx engine.target=8.9
""",
    "list": """\
usage: raybench list [experiments] [models] [engines] [presets]

Lists what can be named on the command line: all four sections, or those that are named.

examples
  raybench list
  raybench list engines
""",
    "doctor": """\
usage: raybench doctor [cluster.address=HOST:PORT]

Shows what this machine, or every node of a Ray cluster, can measure: devices, versions, engines,
and system settings that bias measurements together with the command that fixes each.

options
  cluster.address=HOST:PORT|auto  check a Ray cluster (RAY_ADDRESS counts as well)

exit code
  0  at least one engine can measure hardware    1  none can
""",
    "show": """\
usage: raybench show DIR|DIR:FILTERS [option=value ...]

Prints the table of a results folder, or of those of its rows that pass the filters
column=value,column=value. Options may be written with or without dashes.

options
  format=FORMAT       table, markdown (md), json or csv (table)
  columns=NAME,...    these columns instead of the usual ones, e.g. model,workers,items_per_s
  best=COLUMN         the best points instead, e.g. best=items_per_joule
  where=CONDITIONS    of those only that meet them in every trial (best is items_per_s by default)
  reference=mlperf|FILE.csv
                      published figures, with their sources, beside the fastest points on the chips
  rack_power_w=WATTS  what the devices serve that a rack has power for, at each power limit

examples
  raybench show results
  raybench show results:precision=int8 format=csv > int8.csv
  raybench show results best=items_per_joule where="latency_p99_ms<10 and batch_size>=8"
""",
    "compare": """\
usage: raybench compare A B [option=value ...]

Compares the rows of two sides point by point and says what became faster or slower. A side is a
folder, the id of a run, or a folder with filters: FOLDER:column=value,column=value. Options may
be written with or without dashes.

options
  by=FACTOR,...       factors in which the sides may differ, e.g. by=engine_version
  metric=COLUMN       what is compared (items_per_s)
  threshold=SHARE     smallest change that counts, e.g. 0.01 or 1% (0.01)
  format=FORMAT       table, markdown (md), json, csv or junit (table)
  strict              undecided points also fail (exit code 3)
  results.dir=DIR     folder of sides that name none (results)

exit code
  0  no regression    1  a regression    2  the sides cannot be compared
  3  undecided, with strict

examples
  raybench compare old new by=engine_version format=markdown
  raybench compare results:precision=fp32 results:precision=int8 by=precision
""",
    "trend": """\
usage: raybench trend DIR... [option=value ...]

Follows every point over the runs of one or more results folders, in the order of their start, and
finds the steps of its level: the change with its interval, the day, and what changed in driver,
libraries, clocks, host, tags and raybench there. A run counts with the mean of its trials, and the
noise is the spread between runs. Other devices and other networks of one name are series of their
own. A trend without a change has any step in about 1 % of cases, over all points together; more
where neighbouring runs resemble each other.

A step takes 3 runs on either side of it, so a point with fewer than 6 runs is undecided.

options
  by=FACTOR,...     what the runs of a series may differ in: environment (driver, libraries; the
                    default), none, or other factors such as device or preset
  metric=COLUMN     what is followed (items_per_s)
  tolerance=SHARE   change that is no regression, e.g. 0.01 or 1% (0.01)
  since=YYYY-MM-DD  runs before that day (UTC) count no more: an accepted step is left behind
  strict            undecided points also fail (exit code 3)
  format=FORMAT     table, markdown (md), json or csv (table)
  out=FILE          write there instead of printing

exit code
  0  no regression    1  the newest step of a point beyond the tolerance is for the worse
  2  the rows cannot be used    3  undecided, with strict

examples
  raybench experiment=scaling results.dir=nightly/2026-11-29 tags.commit=3f2a91c
  raybench trend nightly/*
  raybench trend nightly/* metric=latency_p99_ms tolerance=3% format=markdown out=trend.md
""",
    "accept": """\
usage: raybench accept DIR... [option=value ...]

Accepts or rejects every device in the rows of one or more results folders. A device is compared
with the middle of all devices (of two, with the other) and with a baseline, where one is given;
rejected is what is slower by more than the tolerance beyond doubt, accepted is what is not, and the
rest is undecided, with the number of trials that would decide. Racks (tags.rack=NAME in the run)
and hosts are judged first. A fleet without a slow device has any reject in less than 1 % of cases.

Trials in which a device ran alone (scaling.baseline=solo) count, and those of all devices together.
experiment=accept measures both, in arithmetic (gemm), memory and link (copy), and a network.

options
  baseline=FILE    what a sound device reaches, from raybench baseline; needed for one device alone
  tolerance=SHARE  share that a device may be slower, e.g. 0.03 or 3% (0.03)
  format=FORMAT    table, markdown (md), json, csv or junit (table)
  out=FILE         write there instead of printing

exit code
  0  every device accepted    1  one rejected    2  the rows or the baseline cannot be used
  3  none rejected, but one undecided or not judged, or a trial failed

examples
  raybench experiment=accept tags.rack=b7
  raybench accept results
  raybench accept rack1/results rack2/results baseline=h200.json format=junit out=accept.xml
""",
    "baseline": """\
usage: raybench baseline DIR... out=FILE

Writes what a sound device reaches at each point: the median over the devices of the folders, alone
and with all others, with its interval, the environment and the hashes of the plans. The file is
JSON and holds no code. raybench accept refuses one of another chip, precision or engine version.

options
  out=FILE  where to write

example
  raybench baseline results out=h200.json
""",
    "report": """\
usage: raybench report DIR... [option=value ...]

Writes one offline page, the same figures as SVG and PNG files, and Markdown, from the rows of one
or more results folders.

options
  out=DIR                   where to write
  title=TEXT                title of the page
  by=FACTOR                 factor in which the devices side by side differ (device)
  base=VALUE                its value that the others are compared with
  scaling.mode=weak|strong  kind of scaling (weak)
  usd_per_device_hour=PRICE price of one device, for cost per item
  best=COLUMN               a table of the best points, e.g. best=items_per_joule
  where=CONDITIONS          that those meet in every trial, e.g. where="latency_p99_ms<10"
  demand=RATE               how many devices serve so many items/s within the latency bound
  rack_power_w=WATTS        what the devices serve that a rack has power for, at each power limit

example
  raybench report results other/results out=report by=device
  raybench report results best=items_per_joule where="latency_p99_ms<10"
""",
    "clean": """\
usage: raybench clean [DIR...] [remove] [cache=all] [format=FORMAT]

Shows what ended runs left on this machine, and removes it only when asked to: the folders and last
processes of Ray for drivers that were killed, logs of workers that have ended, temporary files of
writes that were cut off in the results folders, and cache entries that are unfinished or were made
by another raybench. Rows are never touched, nor anything of other programs or of a run that goes
on.

options
  DIR...         results folders to look into (results)
  remove         remove what is shown; yes means the same
  cache=all      also the graphs, references and plans of this raybench; they are made again
  format=FORMAT  table, markdown, json or csv (table)

exit code
  0  shown or removed    1  something could not be removed

examples
  raybench clean
  raybench clean remove
  raybench clean cache=all --remove
""",
}
