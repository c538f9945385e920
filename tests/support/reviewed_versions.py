"""The operator versions that the rules have been read against: from the one in force at opset 7 to the newest.

A new version fails `test_operator_versions.py` until it is added here. Before that, read what changed against the rule:
attributes that became operands, new attributes, other defaults, other meanings of the same words. Notes are of changes
that a rule has to know.
"""

from __future__ import annotations

__all__ = ["REVIEWED"]

# ArgMax, ArgMin 12: select_last_index. AveragePool 10: ceil_mode, 19: dilations. MaxPool 8: indices, 10: dilations.
# BatchNormalization 9: no more `spatial`, 14: training_mode, other outputs. Clip 11: bounds as operands.
# DFT 20: axis as operand, default -2 (was 1). DepthToSpace 11, SpaceToDepth 28: mode. Dropout 12: training as operand.
# GRU, LSTM, RNN 14: layout. GatherND 12: batch_dims. Gemm 11: C optional. GridSample 20: other names of modes.
# GroupNormalization 21: scale per channel, not per group. Softmax, LogSoftmax, Hardmax 13: one axis, default -1.
# LpPool 18: ceil_mode, dilations. Pad 11: pads as operand, 18: axes as operand, 19: wrap. RoiAlign 16: half_pixel.
# Reduce* 18 (ReduceSum 13): axes as operand, noop_with_empty_axes. Resize 11: coordinate modes, 13: all operands
# optional, 18: antialias, axes, keep_aspect_ratio_policy. Scatter* 16: reduction add, mul, 18: min, max.
# Slice 10: ranges as operands, steps. Split 13: sizes as operand, 18: num_outputs. Squeeze, Unsqueeze 13: axes as
# operand. TopK 10: k as operand, 11: largest. Upsample 9: scales as operand.
# QuantizeLinear, DequantizeLinear 13: axis, 21: block_size, output type. LabelEncoder 2: pairs of lists, 4: tensors.
# TreeEnsembleClassifier, TreeEnsembleRegressor 3: numbers as tensors too.
_TABLE = """
Abs 6 13
Acos 7 22
Acosh 9 22
Add 7 13 14
AffineGrid 20
And 7
ArgMax 1 11 12 13
ArgMin 1 11 12 13
Asin 7 22
Asinh 9 22
Atan 7 22
Atanh 9 22
AveragePool 7 10 11 19 22
BatchNormalization 7 9 14 15
Bernoulli 15 22
BitCast 26
BitShift 11 28
BitwiseAnd 18
BitwiseNot 18
BitwiseOr 18
BitwiseXor 18
BlackmanWindow 17
Cast 6 9 13 19 21 23 24 25 28
CastLike 15 19 21 23 24 25
Ceil 6 13
Celu 12 28
CenterCropPad 18
Clip 6 11 12 13
Col2Im 18
Compress 9 11 28
Concat 4 11 13
ConcatFromSequence 11
ConstantOfShape 9 20 21 23 24 25
Conv 1 11 22
ConvTranspose 1 11 22
Cos 7 22
Cosh 9 22
CumProd 26
CumSum 11 14
DFT 17 20
DeformConv 19 22
DepthToSpace 1 11 13 28
DequantizeLinear 10 13 19 21 23 24 25 28
Det 11 22
Div 7 13 14
Dropout 7 10 12 13 22
DynamicQuantizeLinear 11
Einsum 12 28
Elu 6 22
Equal 7 11 13 19
Erf 9 13
Exp 6 13
Expand 8 13
EyeLike 9 22
Flatten 1 9 11 13 21 23 24 25
Floor 6 13
GRU 7 14 22
Gather 1 11 13
GatherElements 11 13
GatherND 11 12 13
Gelu 20
Gemm 7 9 11 13
GlobalAveragePool 1 22
GlobalLpPool 2 22
GlobalMaxPool 1 22
Greater 7 9 13
GreaterOrEqual 12 16
GridSample 16 20 22
GroupNormalization 21
HammingWindow 17
HannWindow 17
HardSigmoid 6 22
HardSwish 14 22
Hardmax 1 11 13
Identity 1 13 14 16 19 21 23 24 25
ImageDecoder 20
InstanceNormalization 6 22
IsInf 10 20
IsNaN 9 13 20
LRN 1 13
LSTM 7 14 22
LayerNormalization 17
LeakyRelu 6 16
Less 7 9 13
LessOrEqual 12 16
Log 6 13
LogSoftmax 1 11 13
LpNormalization 1 22
LpPool 2 11 18 22
MatMul 1 9 13
Max 6 8 12 13
MaxPool 1 8 10 11 12 22
MaxRoiPool 1 22
MaxUnpool 9 11 22
Mean 6 8 13
MeanVarianceNormalization 9 13
MelWeightMatrix 17
Min 6 8 12 13
Mish 18 22
Mod 10 13 28
Mul 7 13 14
Multinomial 7 22
Neg 6 13
NonMaxSuppression 10 11
NonZero 9 13
Not 1
OneHot 9 11 28
Optional 15 28
OptionalGetElement 15 18 28
OptionalHasElement 15 18 28
Or 7
PRelu 7 9 16
Pad 2 11 13 18 19 21 23 24 25
Pow 7 12 13 15
QuantizeLinear 10 13 19 21 23 24 25 28
RMSNormalization 23
RNN 7 14 22
RandomNormal 1 22
RandomNormalLike 1 22
RandomUniform 1 22
RandomUniformLike 1 22
Range 11 27
Reciprocal 6 13
ReduceL1 1 11 13 18
ReduceL2 1 11 13 18
ReduceLogSum 1 11 13 18 28
ReduceLogSumExp 1 11 13 18 28
ReduceMax 1 11 12 13 18 20
ReduceMean 1 11 13 18
ReduceMin 1 11 12 13 18 20
ReduceProd 1 11 13 18
ReduceSum 1 11 13
ReduceSumSquare 1 11 13 18
RegexFullMatch 20
Relu 6 13 14
Reshape 5 13 14 19 21 23 24 25
Resize 10 11 13 18 19
ReverseSequence 10 28
RoiAlign 10 16 22
Round 11 22
STFT 17
Scatter 9
ScatterElements 11 13 16 18
ScatterND 11 13 16 18
Selu 6 22
SequenceAt 11
SequenceConstruct 11
SequenceEmpty 11
SequenceErase 11
SequenceInsert 11
SequenceLength 11
Shape 1 13 15 19 21 23 24 25
Shrink 9
Sigmoid 6 13
Sign 9 13
Sin 7 22
Sinh 9 22
Size 1 13 19 21 23 24 25
Slice 1 10 11 13
Softmax 1 11 13
Softplus 1 22
Softsign 1 22
SpaceToDepth 1 13 28
Split 2 11 13 18
SplitToSequence 11 24
Sqrt 6 13
Squeeze 1 11 13 21 23 24 25
StringConcat 20
StringNormalizer 10
StringSplit 20
Sub 7 13 14
Sum 6 8 13
SwiGLU 28
Swish 24
Tan 7 22
Tanh 6 13
TensorScatter 24
TfIdfVectorizer 9
ThresholdedRelu 10 22
Tile 6 13
TopK 1 10 11 24
Transpose 1 13 21 23 24 25
Trilu 14
Unique 11 28
Unsqueeze 1 11 13 21 23 24 25
Upsample 7 9
Where 9 16
Xor 7
ai.onnx.ml::ArrayFeatureExtractor 1
ai.onnx.ml::Binarizer 1
ai.onnx.ml::CastMap 1
ai.onnx.ml::CategoryMapper 1
ai.onnx.ml::DictVectorizer 1
ai.onnx.ml::FeatureVectorizer 1
ai.onnx.ml::Imputer 1
ai.onnx.ml::LabelEncoder 1 2 4
ai.onnx.ml::LinearClassifier 1
ai.onnx.ml::LinearRegressor 1
ai.onnx.ml::Normalizer 1
ai.onnx.ml::OneHotEncoder 1
ai.onnx.ml::SVMClassifier 1
ai.onnx.ml::SVMRegressor 1
ai.onnx.ml::Scaler 1
ai.onnx.ml::TreeEnsemble 5
ai.onnx.ml::TreeEnsembleClassifier 1 3
ai.onnx.ml::TreeEnsembleRegressor 1 3
ai.onnx.ml::ZipMap 1
ai.onnx.preview.training::Adagrad 1
ai.onnx.preview.training::Adam 1
ai.onnx.preview.training::Gradient 1
ai.onnx.preview.training::Momentum 1
"""

REVIEWED = {row.split()[0]: {int(v) for v in row.split()[1:]} for row in _TABLE.strip().splitlines()}
