//! Layers of transformers (`scripts/values/transformer.py`), with PyTorch's weights by name. Values are those of a case's result, then those of
//! its gradients.

use kiln::nn::{
    AttentionMask, DecoderMask, LayerNorm, Mode, MultiHeadAttention, MultiHeadAttentionConfig, Transformer,
    TransformerConfig, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
    TransformerLayerConfig, TransformerMask,
};
use kiln::{DType, Device, Init, ParamStore, Path, Tensor};
use serde_json::Value;

use super::{integer, integers, layers};

/// What is held to PyTorch here.
pub const OPS: &[&str] = &[
    "transformer_encoder_layer",
    "transformer_encoder",
    "transformer_decoder_layer",
    "transformer_decoder",
    "transformer",
    "cross_attention",
];

/// The settings that all layers of a case share.
struct Settings {
    features: usize,
    heads: usize,
    config: TransformerLayerConfig,
    norm_first: bool,
    activation: fn(&Tensor) -> Tensor,
}

impl Settings {
    fn of(attrs: &Value) -> Settings {
        let [features, heads, hidden] = integers(attrs, "sizes")[..] else { panic!("three sizes") };
        Settings {
            features,
            heads,
            config: TransformerLayerConfig { hidden, bias: attrs["bias"] == true },
            norm_first: attrs["norm_first"] == true,
            activation: if attrs["gelu"] == true { Tensor::gelu } else { Tensor::relu },
        }
    }

    fn encoder(&self, path: &Path) -> TransformerEncoderLayer {
        let layer = TransformerEncoderLayer::with(path, self.features, self.heads, self.config);
        let layer = layer.activation(self.activation).dropout(0.0);
        if self.norm_first { layer.norm_first() } else { layer }
    }

    fn decoder(&self, path: &Path) -> TransformerDecoderLayer {
        let layer = TransformerDecoderLayer::with(path, self.features, self.heads, self.config);
        let layer = layer.activation(self.activation).dropout(0.0);
        if self.norm_first { layer.norm_first() } else { layer }
    }

    fn norm(&self, path: &Path) -> LayerNorm {
        assert!(self.config.bias, "stacks with a norm have biases here");
        LayerNorm::new(&path.child("norm"), &[self.features])
    }
}

fn cross_attention(attrs: &Value, params: &ParamStore, x: &[Tensor], load: &dyn Fn()) -> Tensor {
    let [features, heads, keys, values] = integers(attrs, "sizes")[..] else { panic!("four sizes") };
    let config = MultiHeadAttentionConfig {
        key_features: Some(keys),
        value_features: Some(values),
        ..MultiHeadAttentionConfig::default()
    };
    let layer = MultiHeadAttention::with(&params.root(), features, heads, config);
    load();
    layer.attend(&x[0], &x[1], &x[2], &AttentionMask::default(), Mode::Train)
}

/// The result of a layer with parameters in `params`, which it makes; inputs before these are in `x`. `load` gives them their values.
fn apply(op: &str, attrs: &Value, params: &ParamStore, x: &[Tensor], load: &dyn Fn()) -> Vec<Tensor> {
    if op == "cross_attention" {
        return vec![cross_attention(attrs, params, x, load)];
    }
    let (settings, root) = (Settings::of(attrs), params.root());
    let (count, has_norm, causal) = (integer(attrs, "layers"), attrs["norm"] == true, attrs["causal"] == true);
    let (second, rest) = match op.starts_with("transformer_encoder") {
        true => (None, &x[1..]),
        false => (Some(&x[1]), &x[2..]),
    };
    let mut rest = rest.iter();
    let mask = match attrs["mask"].as_str() {
        Some("bool") => rest.next().map(|mask| mask.cast(DType::Bool)),
        Some(_) => rest.next().cloned(),
        None => None,
    };
    let lengths: Vec<Tensor> = rest.map(|lengths| lengths.cast(DType::U32)).collect();
    let own = AttentionMask { causal, mask: mask.as_ref(), lengths: lengths.first() };
    let decoder = DecoderMask { target: own, memory: AttentionMask { lengths: lengths.get(1), ..Default::default() } };
    let result = match (op, second) {
        ("transformer_encoder_layer", _) => {
            let layer = settings.encoder(&root);
            load();
            layer.run(&x[0], &own, Mode::Train)
        }
        ("transformer_encoder", _) => {
            let encoder = TransformerEncoder::new(&root, count, |path| settings.encoder(path));
            let encoder = if has_norm { encoder.norm(settings.norm(&root)) } else { encoder };
            load();
            encoder.run(&x[0], &own, Mode::Train)
        }
        ("transformer_decoder_layer", Some(memory)) => {
            let layer = settings.decoder(&root);
            load();
            layer.run(&x[0], memory, &decoder, Mode::Train)
        }
        ("transformer_decoder", Some(memory)) => {
            let decoder_stack = TransformerDecoder::new(&root, count, |path| settings.decoder(path));
            let decoder_stack = if has_norm { decoder_stack.norm(settings.norm(&root)) } else { decoder_stack };
            load();
            decoder_stack.run(&x[0], memory, &decoder, Mode::Train)
        }
        ("transformer", Some(target)) => {
            let config = TransformerConfig { encoder_layers: count, decoder_layers: count, layer: settings.config };
            let whole = Transformer::with(&root, settings.features, settings.heads, config);
            let whole = whole.dropout(0.0).activation(settings.activation);
            let whole = if settings.norm_first { whole.norm_first() } else { whole };
            load();
            let of_source = AttentionMask { lengths: lengths.first(), ..Default::default() };
            let target_mask = DecoderMask {
                target: AttentionMask { causal, mask: None, lengths: lengths.get(1) },
                memory: of_source,
            };
            let source = AttentionMask { mask: mask.as_ref(), ..of_source };
            whole.run(&x[0], target, &TransformerMask { source, target: target_mask }, Mode::Train)
        }
        _ => panic!("{op} is not known"),
    };
    vec![result]
}

fn check_all(device: &Device, bound: f64) {
    layers::check_all(device, bound, OPS, &apply);
}

#[test]
fn transformer_layers_on_the_reference_are_pytorch_s() {
    check_all(&Device::cpu(), 1e-10);
}

#[test]
fn transformer_layers_on_the_gpu_are_pytorch_s() {
    check_all(&super::common::gpu(), 1e-5);
}

/// Initial values are drawn by other generators, but from the same distributions: the bounds of uniform ones are reached and not passed.
#[test]
fn a_transformer_begins_as_pytorch_s() {
    let params = ParamStore::new(&Device::cpu(), 1);
    let layer = TransformerLayerConfig { hidden: 40, bias: true };
    let config = TransformerConfig { encoder_layers: 1, decoder_layers: 1, layer };
    Transformer::with(&params.root(), 24, 4, config);
    let largest = |name: &str| {
        let values = params.get(name).expect("PyTorch's name").values().unwrap();
        values.iter().fold(0.0, |most: f64, x| most.max(x.abs()))
    };
    let xavier = |rows: usize, columns: usize| (6.0 / (rows + columns) as f64).sqrt();
    for (name, bound) in [
        ("encoder.layers.0.self_attn.in_proj_weight", xavier(72, 24)),
        ("encoder.layers.0.self_attn.out_proj.weight", xavier(24, 24)),
        ("decoder.layers.0.multihead_attn.in_proj_weight", xavier(72, 24)),
        ("decoder.layers.0.linear1.weight", xavier(40, 24)),
        ("decoder.layers.0.linear2.bias", 1.0 / 40f64.sqrt()),
    ] {
        let largest = largest(name);
        assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.8 * bound, "{name}: {largest} of {bound}");
    }
    assert_eq!(largest("encoder.layers.0.self_attn.in_proj_bias"), 0.0);
    assert_eq!(largest("decoder.norm.weight"), 1.0);
    // The layer by itself, like its kin, keeps the values of linear layers.
    let alone = TransformerEncoderLayer::with(&params.root().child("alone"), 24, 4, layer);
    let fresh = kiln::nn::Linear::with(
        &params.root().child("fresh"),
        24,
        40,
        kiln::nn::LinearConfig { bias: true, init: Init::FAN_IN_UNIFORM },
    );
    let bound = 1.0 / 24f64.sqrt();
    for weight in [&alone.linear1.weight, &fresh.weight] {
        assert!(weight.values().unwrap().iter().all(|x| x.abs() <= bound * (1.0 + 1e-6)));
    }
}
