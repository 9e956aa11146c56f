//! Table `token_uses`: when tokens were last used.

use sea_orm::entity::prelude::*;

/// A row. There is none of a token that was never used.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token_uses")]
pub struct Model {
    /// The token's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_id: String,
    /// Microseconds since the epoch.
    pub used_at: i64,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The token.
    #[sea_orm(belongs_to = "super::token::Entity", from = "Column::TokenId", to = "super::token::Column::Id")]
    Token,
}

impl ActiveModelBehavior for ActiveModel {}

impl Related<super::token::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Token.def()
    }
}

impl Related<Entity> for super::token::Entity {
    fn to() -> RelationDef {
        Relation::Token.def().rev()
    }
}
