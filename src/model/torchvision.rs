//! torchvision's names and forms of weights, where they are not timm's, which [`crate::zoo`] has; and position embeddings of
//! another picture size.

use crate::graph::Parameter;
use crate::weights::{Tensor, Weights};

/// Tensors of torchvision's EfficientNet, ViT or ConvNeXt under timm's names and shapes; others stay as they are.
pub(crate) fn renamed(weights: Weights) -> Weights {
    let has = |name: &str| weights.get(name).is_some();
    let any = |end: &str| weights.iter().any(|(name, _)| name.ends_with(end));
    let rename: &dyn Fn(&str) -> String = if has("conv_proj.weight") {
        &vit
    } else if has("features.0.0.weight") && any(".layer_scale") {
        &convnext
    } else if has("features.0.0.weight") && any(".block.1.fc1.weight") {
        &|name| efficientnet(name, &has)
    } else {
        return weights;
    };
    let one = |(name, tensor): (&str, &Tensor)| {
        let mut tensor = tensor.clone();
        if name.ends_with(".layer_scale") {
            tensor.shape = vec![tensor.data.len()]; // [channels, 1, 1] there
        }
        (rename(name), tensor)
    };
    weights.iter().map(one).collect()
}

fn vit(name: &str) -> String {
    const PARTS: [(&str, &str); 8] = [
        ("ln_1.", "norm1."),
        ("self_attention.in_proj_", "attn.qkv."),
        ("self_attention.out_proj.", "attn.proj."),
        ("ln_2.", "norm2."),
        ("mlp.0.", "mlp.fc1."),
        ("mlp.3.", "mlp.fc2."),
        ("mlp.linear_1.", "mlp.fc1."),
        ("mlp.linear_2.", "mlp.fc2."),
    ];
    if let Some((block, rest)) = name.strip_prefix("encoder.layers.encoder_layer_").and_then(|n| n.split_once('.')) {
        let part = PARTS.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", rest.strip_prefix(theirs)?)));
        return format!("blocks.{block}.{}", part.unwrap_or_else(|| rest.to_owned()));
    }
    match name {
        "class_token" => "cls_token".into(),
        "encoder.pos_embedding" => "pos_embed".into(),
        _ => {
            let of = |theirs: &str, ours: &str| Some(format!("{ours}{}", name.strip_prefix(theirs)?));
            let found = of("conv_proj.", "patch_embed.proj.").or_else(|| of("encoder.ln.", "norm."));
            found.unwrap_or_else(|| name.into())
        }
    }
}

fn convnext(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("classifier.0.") {
        return format!("head.norm.{rest}");
    }
    // features.0 is the stem; then stages and what leads to the next take turns.
    let parts: Vec<&str> = name.split('.').collect();
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    let stage = |text: &str| number(text).saturating_sub(1) / 2;
    match parts[..] {
        ["features", "0", part, rest] => format!("stem.{part}.{rest}"),
        ["features", at, block, "layer_scale"] => format!("stages.{}.blocks.{block}.gamma", stage(at)),
        ["features", at, part, rest] => format!("stages.{}.downsample.{part}.{rest}", number(at) / 2),
        ["features", at, block, "block", part, rest] => {
            let part = match part {
                "0" => "conv_dw",
                "2" => "norm",
                "3" => "mlp.fc1",
                "5" => "mlp.fc2",
                other => other,
            };
            format!("stages.{}.blocks.{block}.{part}.{rest}", stage(at))
        }
        _ => name.into(),
    }
}

fn efficientnet(name: &str, has: &dyn Fn(&str) -> bool) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let (stage, block, inside) = match parts[..] {
        ["features", "0", "0", rest] => return format!("conv_stem.{rest}"),
        ["features", "0", "1", rest] => return format!("bn1.{rest}"),
        ["features", "8", "0", rest] => return format!("conv_head.{rest}"),
        ["features", "8", "1", rest] => return format!("bn2.{rest}"),
        ["features", stage, block, "block", ref inside @ ..] => (stage, block, inside),
        _ => return name.into(),
    };
    let Ok(from_0) = stage.parse::<usize>().map(|n| n.saturating_sub(1)) else { return name.into() };
    // Without expansion a block has three parts, with it four.
    let expanded = has(&format!("features.{stage}.{block}.block.3.0.weight"));
    let part = match (expanded, inside) {
        (true, ["0", "0", rest]) => format!("conv_pw.{rest}"),
        (true, ["0", "1", rest]) | (false, ["0", "1", rest]) => format!("bn1.{rest}"),
        (true, ["1", "0", rest]) | (false, ["0", "0", rest]) => format!("conv_dw.{rest}"),
        (true, ["1", "1", rest]) => format!("bn2.{rest}"),
        (_, ["1" | "2", "fc1", rest]) => format!("se.conv_reduce.{rest}"),
        (_, ["1" | "2", "fc2", rest]) => format!("se.conv_expand.{rest}"),
        (true, ["3", "0", rest]) => format!("conv_pwl.{rest}"),
        (true, ["3", "1", rest]) => format!("bn3.{rest}"),
        (false, ["2", "0", rest]) => format!("conv_pw.{rest}"),
        (false, ["2", "1", rest]) => format!("bn2.{rest}"),
        (_, other) => format!("block.{}", other.join(".")),
    };
    format!("blocks.{from_0}.{block}.{part}")
}

/// A position embedding `[1, 1 + side^2, width]` of another picture size, resampled as timm does (bicubic, antialiased); the
/// first token is the class token's, which has no place. Nothing where it is none, or fits.
pub(crate) fn resampled_positions(tensor: &Tensor, wanted: &Parameter) -> Option<(Tensor, [usize; 2])> {
    let (&[1, from, width], &[1, to, same]) = (&tensor.shape[..], &wanted.shape[..]) else { return None };
    let side = |tokens: usize| (1..=1024).find(|side| side * side + 1 == tokens);
    let (small, large) = (side(from)?, side(to)?);
    if !wanted.name.ends_with("pos_embed") || width != same || from == to || tensor.data.len() != from * width {
        return None;
    }
    let taps: Vec<Vec<f64>> = (0..large).map(|at| bicubic(at, small, large)).collect();
    let (class, grid) = tensor.data.split_at(width);
    let mut data = class.to_vec();
    for vertical in &taps {
        // [side of the old, width]: this row of the new between rows of the old.
        let mut row = vec![0.0f64; small * width];
        for (weight, old) in vertical.iter().zip(grid.chunks_exact(small * width)) {
            row.iter_mut().zip(old).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        for horizontal in &taps {
            for channel in 0..width {
                let sum: f64 =
                    horizontal.iter().zip(row.chunks_exact(width)).map(|(weight, place)| weight * place[channel]).sum();
                data.push(sum as f32);
            }
        }
    }
    Some((Tensor { shape: wanted.shape.clone(), data }, [small, large]))
}

/// Weights of the old places for a new one, as PyTorch's antialiased bicubic interpolation has them (Keys, a = -0.5).
fn bicubic(at: usize, old: usize, new: usize) -> Vec<f64> {
    let scale = old as f64 / new as f64;
    let stretch = scale.max(1.0);
    let centre = (at as f64 + 0.5) * scale;
    let cubic = |x: f64| {
        let x = x.abs();
        if x < 1.0 {
            (1.5 * x - 2.5) * x * x + 1.0
        } else if x < 2.0 {
            ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        } else {
            0.0
        }
    };
    let weights: Vec<f64> = (0..old).map(|place| cubic((place as f64 + 0.5 - centre) / stretch)).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::EncoderConfig;
    use std::collections::BTreeSet;

    /// All names that torchvision 0.26 gives, of the networks whose graphs are built here.
    fn theirs(text: &str) -> Weights {
        let one = Tensor { shape: vec![1], data: vec![0.0] };
        text.split_whitespace().map(|name| (name.to_owned(), one.clone())).collect()
    }

    #[test]
    fn blocks_of_three_and_of_four_parts_are_told_apart() {
        let renamed = renamed(theirs(
            "features.0.0.weight features.1.0.block.0.0.weight features.1.0.block.1.fc1.weight features.1.0.block.2.1.running_mean \
             features.2.1.block.0.0.weight features.2.1.block.1.1.bias features.2.1.block.2.fc2.bias features.2.1.block.3.0.weight \
             features.8.1.weight classifier.1.bias",
        ));
        let found: BTreeSet<&str> = renamed.iter().map(|(name, _)| name).collect();
        let expected = "conv_stem.weight blocks.0.0.conv_dw.weight blocks.0.0.se.conv_reduce.weight blocks.0.0.bn2.running_mean \
                        blocks.1.1.conv_pw.weight blocks.1.1.bn2.bias blocks.1.1.se.conv_expand.bias blocks.1.1.conv_pwl.weight \
                        bn2.weight classifier.1.bias";
        assert_eq!(found, expected.split_whitespace().collect());
    }

    #[test]
    fn names_of_transformers_and_of_convnext_are_timms() {
        let pairs = [
            ("encoder.layers.encoder_layer_11.self_attention.in_proj_weight", "blocks.11.attn.qkv.weight"),
            ("encoder.layers.encoder_layer_0.mlp.3.bias", "blocks.0.mlp.fc2.bias"),
            ("encoder.pos_embedding", "pos_embed"),
            ("encoder.ln.weight", "norm.weight"),
            ("conv_proj.bias", "patch_embed.proj.bias"),
            ("heads.head.weight", "heads.head.weight"),
        ];
        pairs.iter().for_each(|(theirs, ours)| assert_eq!(vit(theirs), *ours));
        let pairs = [
            ("features.0.1.weight", "stem.1.weight"),
            ("features.1.2.layer_scale", "stages.0.blocks.2.gamma"),
            ("features.2.1.bias", "stages.1.downsample.1.bias"),
            ("features.7.0.block.5.weight", "stages.3.blocks.0.mlp.fc2.weight"),
            ("classifier.0.bias", "head.norm.bias"),
            ("classifier.2.bias", "classifier.2.bias"),
        ];
        pairs.iter().for_each(|(theirs, ours)| assert_eq!(convnext(theirs), *ours));
    }

    #[test]
    fn positions_of_another_size_are_resampled_and_a_constant_stays_one() {
        let config = EncoderConfig { name: "vit_tiny_patch16".into(), image_size: 64, ..EncoderConfig::default() };
        let parameters = config.build().unwrap().parameters();
        let wanted = parameters.iter().find(|p| p.name == "pos_embed").unwrap();
        let of = |side: usize| {
            let data = (0..(side * side + 1) * 192).map(|i| if i < 192 { 7.0 } else { (i % 192) as f32 }).collect();
            Tensor { shape: vec![1, side * side + 1, 192], data }
        };
        for side in [2, 3, 14] {
            let (found, sides) = resampled_positions(&of(side), wanted).unwrap();
            assert_eq!((found.shape.clone(), sides), (vec![1, 17, 192], [side, 4]));
            assert!(found.data.iter().zip(&of(4).data).all(|(a, b)| (a - b).abs() < 1e-3));
        }
        assert!(resampled_positions(&of(4), wanted).is_none());
        assert!(resampled_positions(&Tensor { shape: vec![1, 6, 192], data: vec![0.0; 6 * 192] }, wanted).is_none());
    }
}
