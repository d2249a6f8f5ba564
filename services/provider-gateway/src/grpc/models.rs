//! `ListModels`.

use tutti_error::{Error, Result};
use tutti_proto::gateway::v1::{
    ListModelsRequest, ListModelsResponse, Modality as WireModality, Model as WireModel, ModelPrice,
};
use tutti_types::time;

use crate::domain::{
    catalogue::{Catalogue, Modality, Model},
    pricing::Price,
    resolve::vendor_of,
};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// A page of the catalogue. The token is the last model of the page before: pages stay right when models are added.
pub(super) fn list(catalogue: &Catalogue, request: &ListModelsRequest) -> Result<ListModelsResponse> {
    let size = match usize::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
    };
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(token.split_once('/').ok_or_else(|| Error::invalid("page_token", "is not one of ours"))?),
    };
    let mut rest = catalogue
        .models()
        .iter()
        .filter(|model| request.provider.is_empty() || model.provider == vendor_of(&request.provider))
        .filter(|model| has_name(model, &request.contains))
        .filter(|model| after.is_none_or(|after| (model.provider.as_str(), model.id.as_str()) > after))
        .peekable();
    let page: Vec<_> = rest.by_ref().take(size).collect();
    let more = rest.peek().is_some();
    let next_page_token = match page.last() {
        Some(last) if more => format!("{}/{}", last.provider, last.id),
        _ => String::new(),
    };
    Ok(ListModelsResponse { models: page.into_iter().map(|model| to_wire(model)).collect(), next_page_token })
}

fn has_name(model: &Model, part: &str) -> bool {
    model.id.contains(part) || model.aliases.iter().any(|alias| alias.contains(part))
}

fn to_wire(model: &Model) -> WireModel {
    let signed = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    WireModel {
        id: model.id.clone(),
        provider: model.provider.clone(),
        aliases: model.aliases.clone(),
        context_window: model.context_window.map_or(0, signed),
        max_output_tokens: model.max_output_tokens.map_or(0, i64::from),
        capabilities: Some(super::capabilities(model.capabilities)),
        prices: model.prices.iter().map(price).collect(),
        regions: model.regions.clone(),
        compliance_tags: model.compliance_tags.clone(),
        trains_on_output: model.trains_on_output.unwrap_or(false),
        trains_on_output_known: model.trains_on_output.is_some(),
        tier: model.tier.clone(),
        prior_quality: model.quality,
        prior_speed: model.speed,
        prior_trust: model.trust,
        legacy: model.legacy,
        as_of: model.as_of.clone(),
        source: model.source.clone(),
        modalities: model.modalities.iter().map(|modality| wire_modality(*modality).into()).collect(),
        configured: model.configured,
    }
}

fn wire_modality(modality: Modality) -> WireModality {
    match modality {
        Modality::Text => WireModality::Text,
        Modality::Image => WireModality::Image,
        Modality::Audio => WireModality::Audio,
        Modality::Video => WireModality::Video,
        Modality::File => WireModality::File,
    }
}

fn price(price: &Price) -> ModelPrice {
    ModelPrice {
        effective_from: price.effective_from.map(|seconds| time::from_unix_micros(seconds.saturating_mul(1_000_000))),
        above_input_tokens: i64::try_from(price.above_input_tokens).unwrap_or(i64::MAX),
        input_nano_usd: price.input,
        cache_read_nano_usd: price.cache_read,
        cache_write_5m_nano_usd: price.cache_write_5m,
        cache_write_1h_nano_usd: price.cache_write_1h,
        output_nano_usd: price.output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(request: &ListModelsRequest) -> (Vec<String>, String) {
        let page = list(&Catalogue::built_in().unwrap(), request).unwrap();
        (page.models.iter().map(|model| format!("{}/{}", model.provider, model.id)).collect(), page.next_page_token)
    }

    #[test]
    fn pages_together_are_the_whole_catalogue_in_order() {
        let (all, end) = page(&ListModelsRequest { page_size: 1000, ..Default::default() });
        assert!(end.is_empty() && all.is_sorted());
        let mut paged = Vec::new();
        let mut request = ListModelsRequest { page_size: 7, ..Default::default() };
        loop {
            let (mut models, next) = page(&request);
            assert!(models.len() <= 7);
            paged.append(&mut models);
            if next.is_empty() {
                break;
            }
            request.page_token = next;
        }
        assert_eq!(paged, all);
    }

    #[test]
    fn filters_narrow_the_list() {
        let (claude, _) = page(&ListModelsRequest { provider: "claude".into(), ..Default::default() });
        assert!(!claude.is_empty() && claude.iter().all(|model| model.starts_with("anthropic/")));
        let (smart, _) = page(&ListModelsRequest { contains: "smart".into(), ..Default::default() });
        assert_eq!(smart, ["anthropic/claude-sonnet-5-5"]);
    }

    #[test]
    fn wrong_pages_are_refused() {
        let catalogue = Catalogue::built_in().unwrap();
        let refused = |request| list(&catalogue, &request).unwrap_err().fields()[0].0.clone();
        assert_eq!(refused(ListModelsRequest { page_size: -1, ..Default::default() }), "page_size");
        assert_eq!(refused(ListModelsRequest { page_token: "x".into(), ..Default::default() }), "page_token");
    }
}
