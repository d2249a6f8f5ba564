//! Every error reason has a page that says what it means and what to do.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tutti_error::{Reason, code_of};

use crate::Finding;

const FOLDER: &str = "deploy/runbooks";
const PREFIX: &str = "ERROR_REASON_";
/// What a page answers, in its headings.
const HEADINGS: &[&str] = &["## What the caller sees", "## Look at", "## Do"];
/// These stand in a tool's result; no call ends with them.
const IN_RESULTS: &[Reason] = &[Reason::ToolFailed, Reason::ToolTimeout, Reason::ToolOutputLimit];

/// All reasons, from the enum of the protos.
///
/// # Errors
/// The bytes are no descriptor set.
pub fn reasons(descriptors: &[u8]) -> Result<Vec<Reason>, prost::DecodeError> {
    let files = FileDescriptorSet::decode(descriptors)?.file;
    let enums = files.iter().flat_map(|file| &file.enum_type).filter(|list| list.name() == "ErrorReason");
    let values = enums.flat_map(|list| &list.value).filter_map(|value| Reason::from_str_name(value.name()));
    Ok(values.filter(|reason| *reason != Reason::Unspecified).collect())
}

/// Each reason has its page, each page its reason; a page has all headings and the code that callers get.
pub fn pages(reasons: &[Reason], pages: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let file_of = |reason: &Reason| format!("{}.md", reason.as_str_name().trim_start_matches(PREFIX));
    for reason in reasons {
        let file = file_of(reason);
        let path = format!("{FOLDER}/{file}");
        let Some((_, text)) = pages.iter().find(|(name, _)| *name == file) else {
            findings.push(Finding::file(&path, "this reason has no page"));
            continue;
        };
        let missing = HEADINGS.iter().filter(|heading| !text.lines().any(|line| line == **heading));
        findings.extend(missing.map(|heading| Finding::file(&path, format!("has no \"{heading}\""))));
        if text.lines().next() != Some(&format!("# {}", file.trim_end_matches(".md"))) {
            findings.push(Finding::file(&path, "its title is not the reason"));
        }
        for code in codes(*reason).iter().filter(|code| !text.contains(code.as_str())) {
            findings.push(Finding::file(&path, format!("does not name {code}")));
        }
    }
    let stray = pages.iter().filter(|(name, _)| !reasons.iter().any(|reason| file_of(reason) == *name));
    findings.extend(stray.map(|(name, _)| Finding::file(&format!("{FOLDER}/{name}"), "the page of no reason")));
    findings
}

/// The codes as callers know them, before and after the first token.
fn codes(reason: Reason) -> Vec<String> {
    if IN_RESULTS.contains(&reason) {
        return vec!["tool result".to_owned()];
    }
    let mut codes =
        [false, true].map(|after_output| screaming(&format!("{:?}", code_of(reason, after_output)))).to_vec();
    codes.dedup();
    codes
}

fn screaming(camel: &str) -> String {
    let mut name = String::new();
    for letter in camel.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# TRUNCATED\n\nWhat.\n\n## What the caller sees\nUNAVAILABLE or DATA_LOSS\n## Look at\n\n## Do\n";

    fn texts(name: &str, page: &str) -> Vec<String> {
        let findings = pages(&[Reason::Truncated], &[(name.to_owned(), page.to_owned())]);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn bad_and_missing_pages_are_found() {
        assert_eq!(texts("TRUNCATED.md", PAGE), [""; 0]);
        assert_eq!(texts("OTHER.md", PAGE), ["this reason has no page", "the page of no reason"]);
        assert_eq!(texts("TRUNCATED.md", &PAGE.replace("## Do", "Do")), ["has no \"## Do\""]);
        assert_eq!(texts("TRUNCATED.md", &PAGE.replace("# TRUNC", "# RUNC")), ["its title is not the reason"]);
        assert_eq!(texts("TRUNCATED.md", &PAGE.replace("DATA_LOSS", "INTERNAL")), ["does not name DATA_LOSS"]);
    }

    #[test]
    fn reasons_come_from_the_protos() {
        let reasons = reasons(tutti_proto::FILE_DESCRIPTOR_SET).unwrap();
        assert!(reasons.contains(&Reason::Truncated) && !reasons.contains(&Reason::Unspecified));
    }
}
