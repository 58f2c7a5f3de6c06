//! The lookup keys that prices have had. Almost every read and batch needs the keys of a few
//! prices, and they rarely change, so they are cached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use entity::known_price;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::rows;
use crate::domain::ids::PriceId;
use crate::domain::known_prices::KnownPrices;
use crate::store::traced::Traced;
use crate::store::{Store, StoreError, Transaction};

/// For a price with keys. Keys are only added, and a key that another replica adds in the meantime
/// is also in the rows of the subscriptions.
const KEYED_TTL: Duration = Duration::from_mins(1);

/// For a price without keys: another replica may be the first to see one.
const KEYLESS_TTL: Duration = Duration::from_secs(1);

/// More than almost any account has.
const MAX_CACHED_PRICES: usize = 10_000;

#[derive(Debug, Default)]
pub(in crate::store) struct KnownPriceCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// The keys that this process has committed. A read that started earlier may not have seen
    /// them.
    committed: KnownPrices,
    read: BTreeMap<PriceId, (KnownPrices, Instant)>,
}

impl KnownPriceCache {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cached keys, and the prices that have to be read.
    fn look_up(&self, prices: &BTreeSet<PriceId>) -> (KnownPrices, BTreeSet<PriceId>) {
        let cached = self.lock();
        let (mut known, mut unread) = (cached.committed.of(prices), BTreeSet::new());
        for price in prices {
            match cached.read.get(price) {
                Some((keys, read_at)) if read_at.elapsed() < ttl(keys) => known.merge(keys),
                Some(_) | None => _ = unread.insert(price.clone()),
            }
        }
        (known, unread)
    }

    fn add_read(&self, prices: BTreeSet<PriceId>, known: &KnownPrices) {
        let mut cached = self.lock();
        if cached.read.len() + prices.len() > MAX_CACHED_PRICES {
            cached.read.clear();
        }
        for price in prices {
            let keys = known.of(&[price.clone()].into());
            cached.read.insert(price, (keys, Instant::now()));
        }
    }

    pub(in crate::store) fn add_committed(&self, known: &KnownPrices) {
        self.lock().committed.merge(known);
    }
}

fn ttl(keys: &KnownPrices) -> Duration {
    if keys.is_empty() { KEYLESS_TTL } else { KEYED_TTL }
}

async fn known_prices(
    cache: &KnownPriceCache,
    db: &Traced<impl ConnectionTrait>,
    prices: &BTreeSet<PriceId>,
) -> Result<KnownPrices, StoreError> {
    let (mut known, unread) = cache.look_up(prices);
    if unread.is_empty() {
        return Ok(known);
    }
    let wanted = known_price::Column::PriceId.is_in(unread.iter().map(PriceId::as_str));
    let read = read(&known_price::Entity::find().filter(wanted).all(db).await?)?;
    cache.add_read(unread, &read);
    known.merge(&read);
    Ok(known)
}

fn read(rows: &[known_price::Model]) -> Result<KnownPrices, StoreError> {
    let mut known = KnownPrices::default();
    for known_price::Model { price_id, lookup_key, seen_at } in rows {
        known.add(&rows::id("known_price", price_id)?, &rows::id("known_price", lookup_key)?, *seen_at);
    }
    Ok(known)
}

impl Store {
    pub async fn known_prices(&self, prices: &BTreeSet<PriceId>) -> Result<KnownPrices, StoreError> {
        known_prices(&self.known_prices, &self.db, prices).await
    }

    pub async fn all_known_prices(&self) -> Result<KnownPrices, StoreError> {
        read(&known_price::Entity::find().all(&self.db).await?)
    }

    pub async fn add_known_prices(&self, known: &KnownPrices) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        transaction.insert_known_prices(known).await?;
        transaction.commit().await
    }
}

impl Transaction {
    pub(in crate::store) async fn known_prices(
        &self,
        prices: &BTreeSet<PriceId>,
    ) -> Result<KnownPrices, StoreError> {
        known_prices(&self.store.known_prices, &self.db, prices).await
    }

    /// An earlier time replaces a later one, so that the first key of a price does not depend on
    /// the order of the writes.
    pub(in crate::store) async fn insert_known_prices(
        &mut self,
        known: &KnownPrices,
    ) -> Result<(), StoreError> {
        use known_price::Column::{LookupKey, PriceId, SeenAt};
        if known.is_empty() {
            return Ok(());
        }
        let rows = known.iter().map(|(price, key, seen_at)| known_price::ActiveModel {
            price_id: Set(price.to_string()),
            lookup_key: Set(key.to_string()),
            seen_at: Set(seen_at),
        });
        let is_earlier = Expr::col(("excluded", SeenAt)).lt(Expr::col((known_price::Entity, SeenAt)));
        let earliest = OnConflict::columns([PriceId, LookupKey])
            .update_column(SeenAt)
            .action_and_where(is_earlier)
            .to_owned();
        known_price::Entity::insert_many(rows).on_conflict(earliest).exec_without_returning(&self.db).await?;
        self.written_prices.merge(known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    fn price(text: &str) -> PriceId {
        PriceId::parse(text).expect("a price")
    }

    fn known(price_id: &str, key: &str, seen_at: i64) -> KnownPrices {
        let mut known = KnownPrices::default();
        known.add(&price(price_id), &price(key), seen_at);
        known
    }

    #[tokio::test]
    async fn added_key_is_read_at_once_with_its_earliest_time() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let prices = [price("price_a")].into();
        assert!(store.known_prices(&prices).await.expect("it is read").is_empty());
        for seen_at in [20, 10, 30] {
            store.add_known_prices(&known("price_a", "pro", seen_at)).await.expect("it is written");
        }
        let expected = known("price_a", "pro", 10);
        assert_eq!(store.known_prices(&prices).await.expect("it is read"), expected);
        assert_eq!(store.all_known_prices().await.expect("they are read"), expected);
    }

    #[test]
    fn cached_keys_are_not_read_again() {
        let cache = KnownPriceCache::default();
        let both = [price("price_a"), price("price_b")].into();
        assert_eq!(cache.look_up(&both), (KnownPrices::default(), both.clone()));
        cache.add_read([price("price_a")].into(), &known("price_a", "pro", 1));
        let (found, unread) = cache.look_up(&both);
        assert_eq!((found, unread), (known("price_a", "pro", 1), [price("price_b")].into()));
        cache.add_committed(&known("price_b", "team", 1));
        let (found, unread) = cache.look_up(&[price("price_b")].into());
        assert_eq!((found, unread), (known("price_b", "team", 1), [price("price_b")].into()));
    }
}
